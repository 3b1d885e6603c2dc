"""A stored row becomes the very span that was recorded with it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from opentelemetry.sdk.trace import ReadableSpan

import lmtrace
from lmtrace.testing import LoopbackProvider, capture
from lmtrace_exporters._otlp_rows import span_of

NOT_KEPT = ("server.address", "server.port")


def facts(span: ReadableSpan) -> dict[str, Any]:
    """A span as it goes over the wire, without what a row does not keep."""
    data = orjson.loads(span.to_json())
    for name in NOT_KEPT:
        data["attributes"].pop(name, None)
    events = [(event["name"], event.get("attributes")) for event in data["events"] if event["name"] == "exception"]
    kept = ("name", "context", "kind", "parent_id", "start_time", "end_time", "status", "attributes")
    return {**{name: data[name] for name in kept}, "events": events}


@pytest.mark.parametrize("content", ["no_content", "span_only"])
def test_same_span(content: str) -> None:
    """Names, ids, times, kind, status and attributes of calls and runs are those of the recorded spans."""
    with LoopbackProvider() as provider, capture(content=content) as captured:
        lm = lmtrace.LM("openai/gpt-4o-mini", api_base=provider.openai_base, api_key="sk-any", num_retries=0)
        with lmtrace.run("outer", tags={"exp": "a"}):
            lm("Who wrote Faust?", temperature=0.5, rollout_id=3)
            lm(messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "And this?"}])
            provider.fail(status=401, times=10)
            with pytest.raises(lmtrace.LMError):
                lm("And that?")
    recorded = {span.context.span_id: facts(span) for span in captured.finished_spans}
    again = [span_of(record.kind, record.row, "any", content=content == "span_only") for record in captured.records]
    assert len(recorded) == len(again) == 4
    for span in again:
        assert span is not None
        expected = recorded[span.context.span_id]
        found = facts(span)
        for name in ("start_time", "end_time"):  # rows keep microseconds
            assert found.pop(name)[:23] == expected.pop(name)[:23]
        assert found == expected


def test_without_a_trace() -> None:
    """A row recorded without a trace is no span."""
    row = {"uuid": "u", "timestamp": "2026-11-21T09:15:00Z", "model": "m"}
    assert span_of("call", row, "any") is None
    assert span_of("call", {**row, "trace_id": "no", "span_id": "hex"}, "any") is None


def test_metadata_only() -> None:
    """A row of which no content was kept has what its columns say."""
    row = {
        "uuid": "u",
        "timestamp": "2026-11-21T09:15:00Z",
        "trace_id": "1" * 32,
        "span_id": "2" * 16,
        "model": "openai/m",
        "input_tokens": 5,
        "response_model": "m-2",
        "cost": 0.25,
        "cost_source": "litellm",
        "finish_reasons": ["stop"],
    }
    span = span_of("call", row, "any")
    assert span is not None
    attributes = span.attributes or {}
    assert attributes["gen_ai.usage.input_tokens"] == 5
    assert attributes["gen_ai.response.model"] == "m-2"
    assert attributes["gen_ai.response.finish_reasons"] == ["stop"]
