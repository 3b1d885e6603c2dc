"""What recording adds to `litellm.completion`, here and with other tracers.

Each tracer runs in a process of its own (``--tracer NAME``): blocks with it off and on alternate, the provider is LiteLLM's
own `mock_response`, spans go to an OTLP/HTTP collector in another process. ``--peers`` makes an environment for each peer
under ``.venv-peers/`` (needs the package registry) and runs all of them in turn, several times.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from _arms import Arm, measure
from _sink import sink

PEERS = {
    "langfuse": ["litellm", "langfuse", "opentelemetry-exporter-otlp-proto-http"],
    "litellm-otel": ["litellm", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"],
    "traceloop": ["litellm", "opentelemetry-instrumentation-litellm", "opentelemetry-exporter-otlp-proto-http"],
    "openinference": ["litellm", "openinference-instrumentation-litellm", "opentelemetry-exporter-otlp-proto-http"],
    "logfire": ["logfire[litellm]", "litellm", "opentelemetry-exporter-otlp-proto-http"],
}
ENVIRONMENTS = Path(__file__).parent.parent / ".venv-peers"
WORDS = "the quick brown fox jumps over a lazy dog while five boxing wizards look on and count what it costs "
MESSAGES = [{"role": "system", "content": (WORDS * 20)[:1000]}, {"role": "user", "content": (WORDS * 50)[:3200]}]
ANSWER = (WORDS * 10)[:800]


def set_up_provider(address: str) -> Any:
    """An SDK provider with a batch processor, as an application would have."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{address}/v1/traces")))
    trace.set_tracer_provider(provider)
    return provider


Switch = tuple[Callable[[], object], Callable[[], object], Callable[[], object]]
"""On, off, flush."""


def lmtrace_switch(address: str) -> Switch:
    import lmtrace

    provider = set_up_provider(address)
    lmtrace.configure(store=tempfile.mkdtemp(prefix="lmtrace-bench-"))
    return lmtrace.instrument, lmtrace.uninstrument, lambda: (provider.force_flush(), lmtrace.flush())


def instrumentor_switch(address: str, make: Callable[[], Any]) -> Switch:
    provider = set_up_provider(address)
    instrumentor = make()
    return (
        lambda: instrumentor.instrument(tracer_provider=provider),
        instrumentor.uninstrument,
        provider.force_flush,
    )


def traceloop_switch(address: str) -> Switch:
    from opentelemetry.instrumentation.litellm import LiteLLMInstrumentor

    return instrumentor_switch(address, LiteLLMInstrumentor)


def openinference_switch(address: str) -> Switch:
    from openinference.instrumentation.litellm import LiteLLMInstrumentor

    return instrumentor_switch(address, LiteLLMInstrumentor)


def logfire_switch(address: str) -> Switch:
    import logfire
    from openinference.instrumentation.litellm import LiteLLMInstrumentor

    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = address
    logfire.configure(send_to_logfire=False, console=False)
    return logfire.instrument_litellm, LiteLLMInstrumentor().uninstrument, logfire.force_flush


def callback_switch(address: str, name: str, environment: dict[str, str]) -> Switch:
    import litellm

    os.environ.update(environment)
    set_up = {"callbacks": [name]}
    return (
        lambda: setattr(litellm, "callbacks", list(set_up["callbacks"])),
        lambda: setattr(litellm, "callbacks", []),
        _flush_global,
    )


def _flush_global() -> None:
    from opentelemetry import trace

    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        flush()


def langfuse_switch(address: str) -> Switch:
    keys = {"LANGFUSE_PUBLIC_KEY": "pk-lf-x", "LANGFUSE_SECRET_KEY": "sk-lf-x", "LANGFUSE_OTEL_HOST": address}
    return callback_switch(address, "langfuse_otel", keys)


def litellm_otel_switch(address: str) -> Switch:
    keys = {"OTEL_EXPORTER": "otlp_http", "OTEL_ENDPOINT": f"{address}/v1/traces"}
    return callback_switch(address, "otel", keys)


SWITCHES: dict[str, Callable[[str], Switch]] = {
    "lmtrace": lmtrace_switch,
    "langfuse": langfuse_switch,
    "litellm-otel": litellm_otel_switch,
    "traceloop": traceloop_switch,
    "openinference": openinference_switch,
    "logfire": logfire_switch,
}


def run_tracer(name: str, address: str, rounds: int) -> dict[str, float]:
    """Blocks with the tracer off and on in this process."""
    import litellm

    on, off, flush = SWITCHES[name](address)

    def call() -> None:
        litellm.completion("openai/gpt-4o-mini", MESSAGES, mock_response=ANSWER, temperature=0.7, max_tokens=1000)

    arms = [Arm("off", call, prepare=off), Arm("on", call, prepare=on, settle=flush)]
    measure(arms, rounds=rounds, block=50)
    bare, traced = arms
    return {
        "bare_p50": bare.p50,
        "p50": traced.p50 - bare.p50,
        "p99": traced.p99 - bare.p99,
        "cpu": traced.cpu - bare.cpu,
    }


def environment_of(name: str) -> str:
    """The Python of a tracer's environment, made when missing."""
    if name == "lmtrace":
        return sys.executable
    python = ENVIRONMENTS / name / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENTS / name], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS[name]], check=True)
    return str(python)


def run_in_turn(names: list[str], address: str, rounds: int, repeats: int) -> dict[str, list[dict[str, float]]]:
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            command = [environment_of(name), __file__, "--tracer", name, "--address", address, "--rounds", str(rounds)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            try:
                results[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
            except (IndexError, json.JSONDecodeError):
                print(f"{name} did not run: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="measure the peers too")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tracer", choices=SWITCHES, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tracer:
        print(json.dumps(run_tracer(options.tracer, options.address, options.rounds)))
        return
    names = ["lmtrace", *PEERS] if options.peers else ["lmtrace"]
    with sink() as address:
        results = run_in_turn(names, address, options.rounds, options.repeats)
    print("\n`litellm.completion`, 5 KB, added to the call (median of processes)\n")
    print("| tracer | p50 µs | p99 µs | CPU µs | bare call µs |\n|---|---|---|---|---|")
    for name, runs in results.items():
        if runs:
            mid = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            print(f"| {name} | {mid['p50']:+.0f} | {mid['p99']:+.0f} | {mid['cpu']:+.0f} | {mid['bare_p50']:.0f} |")


if __name__ == "__main__":
    main()
