"""From `lmtrace.LM` through a real provider's wire format, the recorder and OTLP to a real receiver."""

from __future__ import annotations

import base64
import itertools
import json
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from warm import Warm

import lmtrace
from lmtrace import _recorder, _settings
from lmtrace._ids import Clock
from lmtrace.testing import LoopbackProvider
from lmtrace_exporters._otlp_signals import Tally, build_exporter

KEY = "sk-canary-91c4"
START = 1_795_000_000_000_000_000


class Counted(IdGenerator):
    """Trace ids from 1 and span ids from 0x100 on."""

    def __init__(self) -> None:
        self._traces = itertools.count(1)
        self._spans = itertools.count(0x100)

    def generate_trace_id(self) -> int:
        return next(self._traces)

    def generate_span_id(self) -> int:
        return next(self._spans)


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider() as running:
        yield running


@pytest.fixture
def traced(receiver: Any) -> Iterator[Callable[..., None]]:
    """Records calls with fixed clock and ids, each span sent to the receiver as it ends."""
    exporter = build_exporter("traces", "http/protobuf", Tally(), {"endpoint": f"{receiver.http}/v1/traces"})
    tracer_provider = TracerProvider(
        resource=Resource({"service.name": "e2e"}), id_generator=Counted(), shutdown_on_exit=False
    )
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    before = _recorder.replace(None)

    def use(**settings: Any) -> None:
        ticks = itertools.count(0, 10_000_000)
        numbers = itertools.count(1)
        resolved = _settings.resolve({"store": "off", **settings})
        _recorder.replace(
            _recorder.Recorder(
                resolved,
                tracer=tracer_provider.get_tracer("lmtrace", "0"),
                clock=Clock(lambda: START, lambda: next(ticks)),
                new_id=lambda: f"call-{next(numbers)}",
            )
        )

    yield use
    _recorder.replace(before)
    tracer_provider.shutdown()


def seen(receiver: Any) -> str:
    """The spans the receiver has, as stable text."""
    spans = receiver.spans()
    for span in spans:
        for name in ("trace_id", "span_id", "parent_span_id"):
            if span.get(name):
                span[name] = base64.b64decode(span[name]).hex()
        span["events"] = [{"name": event["name"], "attributes": _plain(event)} for event in span.get("events", ())]
        assert span["attributes"]["lmtrace.request_key"].startswith("lm1:")
        span["attributes"].update({"server.port": "PORT", "lmtrace.request_key": "KEY"})
    return json.dumps(spans, indent=1, sort_keys=True)


def _plain(event: dict[str, Any]) -> dict[str, Any]:
    return {item["key"]: next(iter(item["value"].values())) for item in event.get("attributes", ())}


def model(provider: LoopbackProvider, **options: Any) -> lmtrace.LM:
    return lmtrace.LM("openai/gpt-4o-mini", api_base=provider.openai_base, api_key=KEY, **options)


def test_a_call(traced: Callable[..., None], provider: LoopbackProvider, receiver: Any, snapshot: Any):
    """A plain call arrives as exactly this span, and its ids are those of the entry."""
    traced()
    lm = model(provider, temperature=0.7, max_tokens=50)
    with lmtrace.conversation("conv-1", agent_name="Poet"):
        lm("Who wrote Faust?", rollout_id=3)
    text = seen(receiver)
    assert text == snapshot
    assert KEY not in text
    assert "Faust" not in text
    entry = lm.history[-1]
    (span,) = json.loads(text)
    assert (entry.trace_id, entry.span_id) == (span["trace_id"], span["span_id"])
    assert span["attributes"]["lmtrace.call.id"] == entry.uuid


def test_content(traced: Callable[..., None], provider: LoopbackProvider, receiver: Any, snapshot: Any):
    """With content on spans, prompt and answer arrive as JSON texts, and a key in the prompt does not."""
    traced(content="span_only", redact=[KEY])
    model(provider)(f"Who wrote Faust? {KEY}")
    text = seen(receiver)
    assert text == snapshot
    assert KEY not in text


def test_a_failed_call(traced: Callable[..., None], provider: LoopbackProvider, receiver: Any, snapshot: Any):
    """A refused call arrives as a failed span with its error type, an event, and no message."""
    traced()
    provider.fail(status=401, times=10)
    with pytest.raises(lmtrace.LMError):
        model(provider, num_retries=0)("Who wrote Faust?")
    text = seen(receiver)
    assert text == snapshot
    assert KEY not in text


def test_nested_under_the_application(traced: Callable[..., None], provider: LoopbackProvider, receiver: Any):
    """A call inside the application's span is its child, and the application's span is untouched."""
    traced()
    tracer = _recorder.current().tracer
    with tracer.start_as_current_span("application"):
        model(provider)("Hello")
    by_name = {span["name"]: span for span in receiver.spans()}
    assert by_name["chat gpt-4o-mini"]["parent_span_id"] == by_name["application"]["span_id"]
    assert by_name["chat gpt-4o-mini"]["trace_id"] == by_name["application"]["trace_id"]
    assert by_name["application"]["attributes"] == {}


PROGRAM = textwrap.dedent("""
    import sys, lmtrace
    from lmtrace.testing import LoopbackProvider

    lmtrace.configure(
        otlp=sys.argv[1], otlp_protocol=sys.argv[2], content="event_only", metrics="both", service_name="e2e", store="off"
    )
    with LoopbackProvider() as provider:
        lm = lmtrace.LM("openai/gpt-4o-mini", api_base=provider.openai_base, api_key="sk-canary-91c4", num_retries=0)
        lm("Who wrote Faust?")
        lm("Who wrote Hamlet?")
        provider.fail(status=401)
        try:
            lm("And this?")
        except lmtrace.LMError:
            pass
    print(lmtrace.flush() if sys.argv[3] == "flush" else None)
""")


@pytest.mark.parametrize(("protocol", "end"), [("http/protobuf", "flush"), ("grpc", "exit")])
def test_all_signals(receiver: Any, warm: Warm, tmp_path: Path, protocol: str, end: str):
    """A configured program sends spans, metrics and events, by a flush or just by ending."""
    url = receiver.http if protocol == "http/protobuf" else receiver.grpc
    result = warm.run("-c", PROGRAM, url, protocol, end, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ("True" if end == "flush" else "None")
    assert [span["name"] for span in receiver.spans()] == ["chat gpt-4o-mini"] * 3
    (resource,) = {
        json.dumps(item["resource"]) for request in receiver.read("traces") for item in request["resource_spans"]
    }
    assert '"e2e"' in resource
    metrics = receiver.metrics()
    assert set(metrics) >= {
        "gen_ai.client.inference.duration",
        "gen_ai.client.inference.usage.input_tokens",
        "gen_ai.client.inference.operation.output_tokens",
        "gen_ai.client.operation.duration",
        "gen_ai.client.token.usage",
        "lmtrace.calls",
    }
    points = metrics["gen_ai.client.inference.duration"]["histogram"]["data_points"]
    assert sum(int(point["count"]) for point in points) == 3
    assert [event["event_name"] for event in receiver.events()] == [
        "gen_ai.client.inference.operation.details",
        "gen_ai.client.inference.operation.details",
        "gen_ai.client.inference.operation.details",
        "gen_ai.client.operation.exception",
    ]
    everything = json.dumps([receiver.read(signal) for signal in ("traces", "metrics", "logs")])
    assert KEY not in everything
    assert "Faust" not in json.dumps(receiver.read("traces"))
    assert "Faust" in json.dumps(receiver.read("logs"))
