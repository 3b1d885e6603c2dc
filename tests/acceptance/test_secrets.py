"""Canaries planted wherever a program has credentials turn up in nothing that lmtrace writes, sends or prints."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from lmtrace.testing import Failure, LoopbackProvider, ReceivedRequest, Reply

sys.path.insert(0, str(Path(__file__).parent.parent))

from receiver import receiver, running_receiver  # noqa: F401 - fixtures

PROGRAM = Path(__file__).parent / "programs" / "careless.py"
CANARIES = {
    "API_KEY": "canary-5e1f-key",
    "HEADER": "canary-5e1f-bearer",
    "CUSTOM_HEADER": "canary-5e1f-gateway",
    "USERINFO": "canary/5e1f:user",
    "QUERY": "canary-5e1f-query",
    "ENVIRONMENT": 'canary"5e1f\\environment',
    "OTLP": "canary-5e1f-otlp",
}
"""No shape of a known key; some hold characters that JSON and addresses write differently."""

COMMANDS = [
    ["ls"],
    ["ls", "--runs", "--json"],
    ["show", "careless"],
    ["show", "careless", "--json"],
    ["tail", "--json"],
    ["search", "refuse"],
    ["search", "Log in", "--json"],
    ["cost", "--by", "prompt"],
    ["config"],
    ["config", "--json"],
    ["doctor"],
    ["export", "calls.csv"],
    ["export", "calls.jsonl"],
    ["compact"],
    *(
        ["sql", f"SELECT * FROM {view}", "--json"]
        for view in ("calls", "messages", "spans", "runs", "rollouts", "costs")
    ),
    *(["sql", f"SELECT count(*), any_value({view}) FROM {view}", "--json"] for view in ("candidates", "examples")),
]
"""The program evaluates nothing, so the last two print a row all the same."""


def spellings() -> Iterator[bytes]:
    """Every canary as it is, in JSON, in JSON inside JSON, in an address and in a header."""
    for canary in CANARIES.values():
        once = json.dumps(canary)[1:-1]
        both = base64.b64encode(f"me:{canary}".encode()).decode()
        for text in (canary, once, json.dumps(once)[1:-1], quote(canary, safe=""), both):
            yield text.encode()


def careless_provider(request: ReceivedRequest) -> Reply | Failure:
    """Says back all it was told, as providers and proxies do in their error messages."""
    told = f"Not for {request.headers.get('authorization')} / {request.headers.get('x-gateway')} at {request.query}"
    if "refuse" in request.prompt:
        return Failure(status=401, message=f"Incorrect API key provided: {CANARIES['API_KEY']}. {told}")
    return Reply(text=f"{request.prompt} {told}", reasoning=told)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Any) -> Path:  # noqa: F811
    """Content wherever it may be asked for, and a receiver that wants a password."""
    monkeypatch.delenv("LMTRACE_TEST_RAISE")
    for name, canary in CANARIES.items():
        monkeypatch.setenv(f"CANARY_{name}", canary)
    monkeypatch.setenv("LMTRACE_CONTENT", "span_and_event")
    monkeypatch.setenv("LMTRACE_COMPAT", "jaeger,openinference,v1.41")
    monkeypatch.setenv("LMTRACE_METRICS", "both")
    monkeypatch.setenv("LMTRACE_OTLP", receiver.http)
    monkeypatch.setenv("LMTRACE_OTLP_HEADERS", f"x-team={CANARIES['OTLP']}")
    monkeypatch.setenv("COLUMNS", "4000")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lmtrace(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "lmtrace", *words], capture_output=True, check=False)


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()


def test_no_canary_anywhere(environment: Path, provider: LoopbackProvider, receiver: Any) -> None:  # noqa: F811
    """Rows, segments, spans, events, metrics, logs, the summary, and the output of every command that reads."""
    provider.respond(careless_provider)
    places = dict(collected(provider, receiver))
    for name in CANARIES:
        del os.environ[f"CANARY_{name}"]  # what the commands print must not depend on knowing the canaries
    with ThreadPoolExecutor(4) as pool:
        places |= dict(zip(map(str, COMMANDS), pool.map(output, COMMANDS), strict=True))
    places |= dict(files(environment))
    rows = [json.loads(line) for line in places["calls.jsonl"].splitlines()]
    assert len([row for row in rows if row["kind"] == "call"]) == 22
    assert "[redacted]" in str(rows)
    leaks = {place: text for place, content in places.items() for text in spellings() if text in content}
    assert not leaks


def output(words: list[str]) -> bytes:
    done = lmtrace(*words)
    assert done.returncode == 0 or words == ["doctor"], done.stderr
    assert len(done.stdout + done.stderr) > 20
    return done.stdout + done.stderr


def collected(provider: LoopbackProvider, receiver: Any) -> Iterator[tuple[str, bytes]]:  # noqa: F811
    """What the program printed, and what the collector got."""
    done = lmtrace("run", "--", sys.executable, str(PROGRAM), provider.url)
    assert done.returncode == 0, done.stderr.decode()
    yield "stdout", done.stdout
    yield "stderr", done.stderr
    sent = " ".join(str(request.headers) + request.path + str(request.query) for request in provider.requests)
    assert all(CANARIES[name] in sent for name in ("HEADER", "CUSTOM_HEADER", "QUERY"))  # the provider did get them
    for signal in ("traces", "metrics", "logs"):
        received = json.dumps(receiver.read(signal)).encode()
        assert len(received) > 1000
        yield signal, received
