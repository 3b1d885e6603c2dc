"""What recording adds to `litellm.completion`, here and with other tracers.

Processes without a tracer, with a bare SDK span around each call (the floor) and with the tracer alternate. The provider is
LiteLLM's `mock_response`; spans go to an OTLP/HTTP collector in another process. ``--peers`` makes an environment for each peer
under ``.venv-peers/`` (needs the package registry) and runs all of them in turn, several times.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from _peers import ARMS, Installed, environment_of, run_in_turn, set_up_provider, show, timed
from _sink import sink

PEERS = {
    "langfuse": ["litellm", "langfuse", "opentelemetry-exporter-otlp-proto-http"],
    "litellm-otel": ["litellm", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"],
    "traceloop": ["litellm", "opentelemetry-instrumentation-litellm", "opentelemetry-exporter-otlp-proto-http"],
    "openinference": ["litellm", "openinference-instrumentation-litellm", "opentelemetry-exporter-otlp-proto-http"],
    "logfire": ["logfire[litellm]", "litellm", "opentelemetry-exporter-otlp-proto-http"],
}
WORDS = "the quick brown fox jumps over a lazy dog while five boxing wizards look on and count what it costs "
MESSAGES = [{"role": "system", "content": (WORDS * 20)[:1000]}, {"role": "user", "content": (WORDS * 50)[:3200]}]
ANSWER = (WORDS * 10)[:800]
CALL = "litellm.completion, 5 KB"


def install_lmtrace(address: str) -> Installed:
    import lmtrace

    provider = set_up_provider(address)
    lmtrace.configure(store=tempfile.mkdtemp(prefix="lmtrace-bench-"))
    return Installed(lambda: (provider.force_flush(), lmtrace.flush()), lmtrace.instrument)


def install_traceloop(address: str) -> Installed:
    from opentelemetry.instrumentation.litellm import LiteLLMInstrumentor

    provider, instrumentor = set_up_provider(address), LiteLLMInstrumentor()
    return Installed(provider.force_flush, lambda: instrumentor.instrument(tracer_provider=provider))


def install_openinference(address: str) -> Installed:
    from openinference.instrumentation.litellm import LiteLLMInstrumentor

    provider, instrumentor = set_up_provider(address), LiteLLMInstrumentor()
    return Installed(provider.force_flush, lambda: instrumentor.instrument(tracer_provider=provider))


def install_logfire(address: str) -> Installed:
    import logfire

    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = address
    logfire.configure(send_to_logfire=False, console=False)
    return Installed(logfire.force_flush, logfire.instrument_litellm)


def install_callback(name: str, environment: dict[str, str]) -> Installed:
    import litellm

    os.environ.update(environment)
    litellm.callbacks = [name]
    litellm.completion("openai/gpt-4o-mini", MESSAGES, mock_response=ANSWER)  # LiteLLM makes the callback's object now
    made, litellm.callbacks = list(litellm.callbacks), []
    return Installed(_flush_global, lambda: setattr(litellm, "callbacks", made))


def _flush_global() -> None:
    from opentelemetry import trace

    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        flush()


def install_langfuse(address: str) -> Installed:
    keys = {"LANGFUSE_PUBLIC_KEY": "pk-lf-x", "LANGFUSE_SECRET_KEY": "sk-lf-x", "LANGFUSE_OTEL_HOST": address}
    return install_callback("langfuse_otel", keys)


def install_litellm_otel(address: str) -> Installed:
    keys = {"OTEL_EXPORTER": "otlp_http", "OTEL_ENDPOINT": f"{address}/v1/traces"}
    return install_callback("otel", keys)


INSTALLERS: dict[str, Callable[[str], Installed]] = {
    "lmtrace": install_lmtrace,
    "langfuse": install_langfuse,
    "litellm-otel": install_litellm_otel,
    "traceloop": install_traceloop,
    "openinference": install_openinference,
    "logfire": install_logfire,
}


def run_tracer(name: str, address: str, arm: str, rounds: int) -> dict[str, Any]:
    """Blocks of calls in this process."""
    import litellm

    def call() -> object:
        options = {"mock_response": ANSWER, "temperature": 0.7, "max_tokens": 1000}
        return litellm.completion("openai/gpt-4o-mini", MESSAGES, **options)

    return timed({CALL: call}, INSTALLERS[name](address), arm, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="measure the peers too")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tracer", choices=INSTALLERS, help=argparse.SUPPRESS)
    parser.add_argument("--arm", choices=ARMS, default="on", help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tracer:
        print(json.dumps(run_tracer(options.tracer, options.address, options.arm, options.rounds)))
        return
    names = ["lmtrace", *PEERS] if options.peers else ["lmtrace"]
    with sink() as address:
        environments = {name: environment_of(name, PEERS.get(name, ())) for name in names}
        results = run_in_turn(__file__, environments, address, options.rounds, options.repeats)
    show(CALL, results)


if __name__ == "__main__":
    main()
