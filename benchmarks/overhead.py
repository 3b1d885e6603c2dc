"""What recording adds to an LM call: bare call, bare SDK span, row, span, both; and the row beside CPU-bound threads.

The bare call is a backend that answers at once. Spans go through the SDK's batch processor to an OTLP/HTTP collector in
another process; rows go to a real store. Promises (DESIGN section 9): both ≤ 80 µs p50 at 5 KB, the row alone ≤ 25 µs, and
≤ 1 ms p99 with four CPU-bound threads.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from typing import Any

from _arms import Arm, measure, table
from _sink import sink
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from lmtrace import LMOutput, LMRequest, LMResponse, LMUsage, _recorder
from lmtrace._data import LMTextPart
from lmtrace._settings import Settings
from lmtrace._traced import TracedBackend
from lmtrace_exporters import StoreExporter

WORDS = "the quick brown fox jumps over a lazy dog while five boxing wizards look on and count what it costs "
ANSWER = LMResponse(
    model="gpt-4o-mini-2024-07-18",
    outputs=(LMOutput(parts=(LMTextPart((WORDS * 10)[:800]),), finish_reason="stop"),),
    usage=LMUsage(input_tokens=900, output_tokens=180, total_tokens=1080, details={"prompt_tokens": 900}),
    cost=0.000243,
    response_id="chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz",
    metadata={"cost_source": "litellm"},
)


class Canned:
    """A provider that answers at once."""

    def complete(self, request: LMRequest, secrets: Any) -> LMResponse:
        return ANSWER


def request(size: int) -> LMRequest:
    messages = [
        {"role": "system", "content": (WORDS * (size // 90))[: size // 5]},
        {"role": "user", "content": (WORDS * (size // 90))[: size - size // 5 - 1000]},
    ]
    return LMRequest(model="openai/gpt-4o-mini", messages=messages, kwargs={"temperature": 0.7, "max_tokens": 1000})


ATTRIBUTES = {f"gen_ai.bench.attribute_{i}": f"value {i}" for i in range(18)}


def arms_for(size: int, tracer: Any, processor: Any, store: Any) -> list[Arm]:
    """The five arms. Each swaps in its recorder before its block."""
    asked, secrets = request(size), {"api_key": "sk-benchmark-0123456789abcdef"}
    canned = Canned()
    traced = TracedBackend(canned)
    nothing = trace.NoOpTracer()

    def with_recorder(used: Any, exporters: Any) -> Any:
        recorder = _recorder.Recorder(Settings(), tracer=used, exporters=exporters)
        return lambda: _recorder.replace(recorder)

    def bare_span() -> None:
        with tracer.start_as_current_span("chat gpt-4o-mini", kind=trace.SpanKind.CLIENT) as span:
            canned.complete(asked, secrets)
            span.set_attributes(ATTRIBUTES)

    def call() -> None:
        traced.call(asked, secrets)

    flush = processor.force_flush
    return [
        Arm("bare call", lambda: canned.complete(asked, secrets)),
        Arm("bare SDK span, 18 attributes", bare_span, settle=flush),
        Arm("lmtrace, row", call, with_recorder(nothing, [store])),
        Arm("lmtrace, span", call, with_recorder(tracer, []), flush),
        Arm("lmtrace, span and row", call, with_recorder(tracer, [store]), flush),
    ]


def busy_threads(count: int) -> threading.Event:
    """Start threads that never let the GIL rest."""
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(1000))

    for _ in range(count):
        threading.Thread(target=spin, daemon=True).start()
    return stop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=5000, help="bytes of a request and its answer")
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    with sink() as address, tempfile.TemporaryDirectory() as folder:
        provider = TracerProvider(shutdown_on_exit=False)
        processor = BatchSpanProcessor(OTLPSpanExporter(f"{address}/v1/traces"), max_export_batch_size=128)
        provider.add_span_processor(processor)
        store = StoreExporter(folder, compaction=False)
        arms = arms_for(options.size, provider.get_tracer("bench"), processor, store)
        measure(arms, rounds=options.rounds)
        print(f"\nOne call of {options.size} bytes, {len(arms[0].wall_ns)} calls an arm, interleaved\n")
        print(table(arms, arms[0], arms[1]))

        stop = busy_threads(4)
        beside = arms_for(options.size, provider.get_tracer("bench"), processor, store)
        beside = [beside[0], beside[2]]
        measure(beside, rounds=options.rounds, block=20, pause=0.004)
        stop.set()
        print("\nThe row beside four CPU-bound threads, a call every 4 ms\n")
        print(table(beside, beside[0]))
        store.shutdown()
        provider.shutdown()


if __name__ == "__main__":
    main()
