"""Which span, event and metric keys a tracer of DSPy writes on the programs of the examples: lmtrace | opentelemetry.

Prints them as JSON. ``opentelemetry`` needs ``opentelemetry-instrumentation-genai-dspy``; what it wrote on the day it was measured
is in ``keys_of_opentelemetry.json``, which is made anew in an environment that has it (and this checkout on the PYTHONPATH):

    uv venv /tmp/genai && uv pip install -p /tmp/genai --prerelease=allow dspy==3.4.1 litellm opentelemetry-instrumentation-genai-dspy
    PYTHONPATH=. /tmp/genai/bin/python tests/with_dspy/programs/keys.py opentelemetry > tests/with_dspy/programs/keys_of_opentelemetry.json
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_AND_EVENT"
os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
sys.path.insert(0, str(Path(__file__).parents[3] / "examples" / "dspy_programs"))

import _twice
import dspy
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk import _logs as logs_sdk
from opentelemetry.sdk._logs import export as logs_export
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lmtrace.testing import LoopbackProvider

EXAMPLES = ("math_answer", "rag", "classification", "extraction", "react_agent", "pipeline")
"""The optimisers ask for nothing else, and need more packages."""

Keys = dict[str, dict[str, list[str]]]


class Memory:
    """The application's OpenTelemetry set-up; everything stays in memory."""

    def __init__(self) -> None:
        self.spans, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.logs = logs_export.InMemoryLogRecordExporter()
        traces, loggers = TracerProvider(), logs_sdk.LoggerProvider()
        traces.add_span_processor(SimpleSpanProcessor(self.spans))
        loggers.add_log_record_processor(logs_export.SimpleLogRecordProcessor(self.logs))
        trace.set_tracer_provider(traces)
        metrics.set_meter_provider(MeterProvider([self.reader]))
        _logs.set_logger_provider(loggers)

    def keys(self) -> Keys:
        """The keys of everything, by what it is."""
        found: dict[str, dict[str, set[str]]] = {
            "spans": defaultdict(set),
            "events": defaultdict(set),
            "metrics": defaultdict(set),
        }
        for span in self.spans.get_finished_spans():
            operation = f"{span.attributes.get('gen_ai.operation.name')} {span.kind.name}"
            found["spans"][operation].update(span.attributes)
            for event in span.events:
                found["events"][f"{event.name} of {operation}"].update(event.attributes)
        for item in self.logs.get_finished_logs():
            found["events"][str(item.log_record.event_name)].update(item.log_record.attributes)
        for metric, point in self._points():
            operation = point.attributes.get("gen_ai.operation.name")
            found["metrics"][f"{metric.name} of {operation}"].update(point.attributes)
        return {kind: {name: sorted(keys) for name, keys in sorted(by.items())} for kind, by in found.items()}

    def _points(self) -> Iterator[tuple[Any, Any]]:
        for resource in self.reader.get_metrics_data().resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    yield from ((metric, point) for point in metric.data.data_points)


def instrument(tracer: str) -> None:
    if tracer == "lmtrace":
        import lmtrace

        lmtrace.configure(store=None, metrics="both")
        lmtrace.instrument()
    else:
        importlib.import_module("opentelemetry.instrumentation.genai.dspy").DSPyInstrumentor().instrument()


def examples() -> Iterator[tuple[Callable[[], str], _twice.Model]]:
    """Program and scripted model of each example."""
    made: list[tuple[Callable[[], str], _twice.Model]] = []
    _twice.twice = lambda program, model: made.append((program, model))
    for name in EXAMPLES:
        importlib.import_module(name)
    yield from made


def run_examples() -> None:
    for program, model in examples():
        with LoopbackProvider() as provider:
            provider.respond(lambda request, model=model: _twice.written(request, model(request)))
            with dspy.context(lm=made_lm(provider)), contextlib.redirect_stdout(io.StringIO()):
                program()


def made_lm(provider: LoopbackProvider, **given: Any) -> Any:
    return dspy.LM(
        "openai/gpt-4o-mini", api_base=provider.openai_base, api_key="any", cache=False, num_retries=0, **given
    )


def run_calls() -> None:
    """Calls with every parameter, with tools, that fail, in text and Responses form, async."""
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    with LoopbackProvider() as provider:
        lm = made_lm(provider, temperature=0.5, max_tokens=100)
        lm("Why?", top_p=0.9, frequency_penalty=0.1, presence_penalty=0.1, seed=1, stop=["x"], n=2)
        lm(messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Add."}], tools=[tool])
        usage = {
            "input_tokens": 9,
            "output_tokens": 9,
            "cache_read_tokens": 3,
            "cache_write_tokens": 2,
            "reasoning_tokens": 4,
        }
        provider.reply("So.", usage=usage)
        lm("Why?")
        made_lm(provider, model_type="responses")("Why?")
        provider.fail(status=401)
        with contextlib.suppress(Exception):
            lm("Why?")


def run_tools() -> None:
    def broken(query: str) -> str:
        """Find something."""
        raise LookupError(query)

    with contextlib.suppress(Exception):
        dspy.Tool(broken)(query="Hamlet")


def run_retrieval() -> None:
    """The retriever that DSPy's front page uses, against a server of our own."""

    class Wikipedia(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(
                {"topk": [{"text": "Kinnairdy | A castle.", "prob": 0.5, "score": 2.0, "pid": 1, "rank": 1}]}
            )
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Wikipedia) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        dspy.ColBERTv2(url=f"http://127.0.0.1:{server.server_port}/wiki")("castle", k=1)
        server.shutdown()


def main(tracer: str) -> None:
    memory = Memory()
    instrument(tracer)
    for run in (run_examples, run_calls, run_tools, run_retrieval):
        run()
    sys.stdout.write(json.dumps(memory.keys(), indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
