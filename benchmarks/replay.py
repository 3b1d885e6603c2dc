"""What an answer costs that was recorded or cached before: replay beside DSPy's and LiteLLM's caches, vcrpy and cassetter.

Each arm is a process, as their libraries do not fit into one environment; all are started and warmed up, and then blocks of
calls alternate in random order, so that drift hits all alike. Every arm has seen the same requests and is asked them
in turn. What is timed is what the program waits for: a call of the LM for arms that sit there, a bare ``httpx`` post
for those that sit at HTTP, where the client of a provider would come on top.

``--peers`` makes an environment for each peer under ``.venv-peers/`` (needs the package registry).
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ.setdefault("LMTRACE_STORE", "off")

PEERS = {
    "dspy memory cache": ("dspy", ["dspy"]),
    "litellm local cache": ("litellm-cache", ["litellm[proxy]"]),
    "vcrpy": ("vcrpy", ["vcrpy", "httpx"]),
    "cassetter": ("cassetter", ["cassetter", "httpx"]),
}
OURS = ("lmtrace.LM", "lmtrace, own cost")
ENVIRONMENTS = Path(__file__).parent.parent / ".venv-peers"
BLOCK = 20
"""Calls of an arm before it is another one's turn."""
WORDS = "the quick brown fox jumps over a lazy dog while five boxing wizards look on and count what it costs "
ANSWER = (WORDS * 10)[:800]
MODEL = "openai/gpt-4o-mini"

Ask = Callable[[str], object]
Load = Callable[[], object] | None


def prompts(size: int, entries: int) -> list[str]:
    return [f"Question {number}: {WORDS * (size // len(WORDS) + 1)}"[:size] for number in range(entries)]


# --- the arms, each in its own process -------------------------------------------------------------------------------


def messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


class Answers:
    """A backend that answers at once, to record with."""

    def complete(self, request: Any, secrets: Any) -> Any:
        from lmtrace import LMOutput, LMResponse, LMTextPart, LMUsage

        usage = LMUsage(input_tokens=500, output_tokens=200, total_tokens=700)
        return LMResponse(
            model="gpt-4o-mini", outputs=[LMOutput(parts=[LMTextPart(ANSWER)], finish_reason="stop")], usage=usage
        )


def lmtrace_cassette(folder: Path, asks: list[str]) -> Path:
    import lmtrace

    path = folder / "lmtrace.cassette"
    lm = lmtrace.LM(MODEL, temperature=0.7, backend=Answers())
    with lmtrace.replay(path, mode="rewrite"):
        for prompt in asks:
            lm(prompt)
    return path


def arm_lmtrace(address: str, folder: Path, asks: list[str], stack: ExitStack) -> tuple[Ask, Load]:
    """The whole call: `lmtrace.LM` under a session, without a store."""
    import lmtrace
    from lmtrace_replay._cassette import load

    path = lmtrace_cassette(folder, asks)
    stack.enter_context(lmtrace.replay(path))
    return lmtrace.LM(MODEL, temperature=0.7), lambda: load(path)


def arm_own_cost(address: str, folder: Path, asks: list[str], stack: ExitStack) -> tuple[Ask, Load]:
    """What answers in the provider's place, by itself: key, choice and the answer made anew."""
    import lmtrace
    from lmtrace import _serving

    stack.enter_context(lmtrace.replay(lmtrace_cassette(folder, asks)))
    server = _serving.current()
    assert server is not None
    backend = server.serve(Answers())

    def ask(prompt: str) -> object:
        request = lmtrace.LMRequest(
            model=MODEL, messages=messages(prompt), prompt=prompt, kwargs={"temperature": 0.7}, metadata={"cache": True}
        )
        return backend.complete(request, {})

    return ask, None


def arm_dspy(address: str, folder: Path, asks: list[str], stack: ExitStack) -> tuple[Ask, Load]:
    import dspy

    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    lm = dspy.LM(MODEL, api_base=f"{address}/v1", api_key="any", temperature=0.7)
    for prompt in asks:
        lm(prompt)
    return lm, None


def arm_litellm(address: str, folder: Path, asks: list[str], stack: ExitStack) -> tuple[Ask, Load]:
    import litellm
    from litellm.caching.caching import Cache

    litellm.cache = Cache(type="local")

    def ask(prompt: str) -> object:
        return litellm.completion(
            MODEL, messages(prompt), api_base=f"{address}/v1", api_key="any", temperature=0.7, caching=True
        )

    for prompt in asks:
        ask(prompt)
    return ask, None


def poster(address: str) -> Ask:
    import httpx

    client = httpx.Client()

    def ask(prompt: str) -> object:
        body = {"model": "gpt-4o-mini", "messages": messages(prompt), "temperature": 0.7}
        return client.post(f"{address}/v1/chat/completions", json=body).raise_for_status().json()

    return ask


def arm_vcrpy(address: str, folder: Path, asks: list[str], stack: ExitStack) -> tuple[Ask, Load]:
    import vcr
    from vcr.cassette import Cassette

    logging.getLogger("vcr").setLevel(logging.ERROR)
    path, match = str(folder / "vcr.yaml"), ["method", "uri", "body"]
    with vcr.use_cassette(path, record_mode="all", match_on=match):
        ask = poster(address)
        for prompt in asks:
            ask(prompt)
    stack.enter_context(vcr.use_cassette(path, record_mode="none", match_on=match, allow_playback_repeats=True))
    return poster(address), lambda: Cassette.load(path=path)


def arm_cassetter(address: str, folder: Path, asks: list[str], stack: ExitStack) -> tuple[Ask, Load]:
    import cassetter

    path = folder / "cassetter.yaml"
    match: Any = ["method", "uri", "body"]
    with cassetter.use_cassette(path, record_mode="all", match_on=match):
        ask = poster(address)
        for prompt in asks:
            ask(prompt)

    def load() -> None:
        with cassetter.use_cassette(path, record_mode="none", match_on=match):
            pass

    stack.enter_context(cassetter.use_cassette(path, record_mode="none", match_on=match))
    return poster(address), load


ARMS: dict[str, Callable[[str, Path, list[str], ExitStack], tuple[Ask, Load]]] = {
    "lmtrace.LM": arm_lmtrace,
    "lmtrace, own cost": arm_own_cost,
    "dspy memory cache": arm_dspy,
    "litellm local cache": arm_litellm,
    "vcrpy": arm_vcrpy,
    "cassetter": arm_cassetter,
}


def serve_arm(name: str, address: str, asks: list[str]) -> None:
    """Lines come in: a number of calls to time, or ``load``; lines with nanoseconds go out."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not come between
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ask, load = ARMS[name](address, Path(folder), asks, stack)
        asked = itertools.cycle(asks)
        time_calls(ask, asked, 30)
        print(json.dumps("ready"), file=out, flush=True)
        for line in sys.stdin:
            if line.strip() == "load":
                times = [] if load is None else [time_load(load) for _ in range(5)]
            else:
                times = time_calls(ask, asked, int(line))
            print(json.dumps(times), file=out, flush=True)


def time_load(load: Callable[[], object]) -> int:
    """In CPU time: a load takes longer than the machine leaves a process alone."""
    start = time.process_time_ns()
    load()
    return time.process_time_ns() - start


def time_calls(ask: Ask, asked: Iterator[str], count: int) -> list[int]:
    clock, times = time.perf_counter_ns, []
    for prompt in itertools.islice(asked, count):
        start = clock()
        ask(prompt)
        times.append(clock() - start)
    return times


# --- the one that starts them and takes their times ------------------------------------------------------------------


@contextmanager
def provider() -> Iterator[str]:
    """Answers every chat completion with the same text."""
    body = json.dumps({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ANSWER}}],
        "usage": {"prompt_tokens": 500, "completion_tokens": 200, "total_tokens": 700},
    }).encode()  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


class Arm:
    """The process of an arm."""

    def __init__(self, name: str, address: str, size: int, entries: int) -> None:
        self.name = name
        self.calls: list[int] = []
        self.loads: list[int] = []
        self.process = subprocess.Popen(
            [
                environment_of(name), __file__, "--arm", name, "--address", address, "--size", str(size),
                "--entries", str(entries),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, line: str | None) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if line is not None:
            print(line, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def end(self) -> str:
        return self.process.communicate()[1]


def environment_of(name: str) -> str:
    """The Python of an arm's environment, made when missing."""
    if name not in PEERS:
        return sys.executable
    folder, packages = PEERS[name]
    python = ENVIRONMENTS / folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENTS / folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    return str(python)


def started(names: list[str], address: str, size: int, entries: int) -> list[Arm]:
    """The arms that run, one after the other; what keeps one from it is said."""
    arms = []
    for name in names:
        arm = Arm(name, address, size, entries)
        try:
            arm.ask(None)
            arms.append(arm)
        except json.JSONDecodeError:
            print(f"{name} did not run: {arm.end().strip().splitlines()[-1:]}", file=sys.stderr)
    return arms


def run(names: list[str], size: int, entries: int, rounds: int) -> list[Arm]:
    order = random.Random(1)
    with provider() as address:
        arms = started(names, address, size, entries)
        for _ in range(rounds):
            for arm in order.sample(arms, len(arms)):
                arm.calls += arm.ask(str(BLOCK))
        for _ in range(4):
            for arm in order.sample(arms, len(arms)):
                arm.loads += arm.ask("load")
        for arm in arms:
            arm.end()
    return arms


def percentile(times: list[int], percent: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * percent / 100))] / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="measure the peers too")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--size", type=int, help="characters of a prompt, for one run instead of the usual ones")
    parser.add_argument("--entries", type=int, default=100, help="how many requests were recorded")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        serve_arm(options.arm, options.address, prompts(options.size, options.entries))
        return
    names = [*OURS, *PEERS] if options.peers else [*OURS]
    usual = ((2_000, 1), (2_000, 100), (50_000, 100))
    for size, entries in ((options.size, options.entries),) if options.size else usual:
        print(f"\nA hit: prompts of {size / 1000:g} KB, {entries} recorded\n")
        print("| arm | p50 µs | p99 µs | ratio to lmtrace.LM | load, CPU ms |\n|---|---|---|---|---|")
        arms = run(names, size, entries, options.rounds)
        for arm in arms:
            ratio = percentile(arm.calls, 50) / percentile(arms[0].calls, 50)
            load = f"{percentile(arm.loads, 50) / 1000:.1f}" if arm.loads else "–"
            print(
                f"| {arm.name} | {percentile(arm.calls, 50):.0f} | {percentile(arm.calls, 99):.0f} | {ratio:.2f} | {load} |"
            )


if __name__ == "__main__":
    main()
