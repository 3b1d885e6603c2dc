"""Events of calls, through the real Logs SDK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry._logs import NoOpLogger, SeverityNumber
from opentelemetry._logs._internal import ProxyLogger
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from lmtrace import _events
from lmtrace import _semconv as names
from lmtrace._data import LMRequest
from lmtrace._entry import CallError, HistoryEntry, RunInfo
from lmtrace._events import Events

Entry = Callable[..., HistoryEntry]
SPAN = NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1)))
ERROR = CallError(type="litellm.exceptions.Timeout", message="Who wrote Faust? took too long")


class Logs:
    """A logger provider with an exporter in memory."""

    def __init__(self) -> None:
        self._exporter = InMemoryLogRecordExporter()
        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(SimpleLogRecordProcessor(self._exporter))
        self.logger = provider.get_logger("test")

    @property
    def records(self) -> list[Any]:
        return [item.log_record for item in self._exporter.get_finished_logs()]


@pytest.fixture
def logs() -> Logs:
    return Logs()


@pytest.mark.parametrize("content", ["no_content", "span_only"])
def test_a_successful_call_is_no_event(logs: Logs, make_entry: Entry, content: str):
    """Details are opt-in; a call that went well has nothing else to tell."""
    Events(logs.logger, content=content).emit(make_entry(), SPAN)
    assert logs.records == []


@pytest.mark.parametrize("content", ["event_only", "span_and_event"])
def test_details(logs: Logs, make_entry: Entry, content: str):
    """The details event has the attributes of the span and structured messages, at the span's ids."""
    entry = make_entry(scope="RAG", run=RunInfo(run_id="r", name="n"))
    Events(logs.logger, content=content).emit(entry, SPAN)
    (record,) = logs.records
    assert record.event_name == "gen_ai.client.inference.operation.details"
    assert record.severity_number is SeverityNumber.DEBUG
    assert (record.trace_id, record.span_id) == (0xABC, 0xDEF)
    assert record.timestamp == entry.timestamp_ns + 250_000_000
    attributes = record.attributes
    assert attributes[names.REQUEST_MODEL] == "gpt-4o-mini"
    assert attributes[names.USAGE_INPUT_TOKENS] == 20
    assert (attributes[names.SCOPE], attributes[names.RUN_ID]) == ("RAG", "r")
    (output,) = attributes[names.OUTPUT_MESSAGES]
    assert output["parts"][0]["content"] == "Goethe."
    assert output["finish_reason"] == "stop"


def test_odd_messages(logs: Logs, make_entry: Entry):
    """Values no exporter could encode are made harmless first."""
    request = LMRequest(
        model="m/m", messages=[{"role": "user", "content": ["\ud800", {"type": "x", "n": 2**80, "o": object()}]}]
    )
    Events(logs.logger, content="event_only").emit(make_entry(request=request), SPAN)
    (record,) = logs.records
    text, other = record.attributes[names.INPUT_MESSAGES][0]["parts"]
    assert text["content"] == "?"
    assert other["n"] == str(2**80)


@pytest.mark.parametrize(("content", "shown"), [("no_content", False), ("span_only", False), ("event_only", True)])
def test_exception(logs: Logs, make_entry: Entry, content: str, *, shown: bool):
    """A failed call is a warning; its message, which may quote the prompt, is told only where content is."""
    Events(logs.logger, content=content).emit(make_entry(response=None, error=ERROR), SPAN)
    record = logs.records[-1]
    assert record.event_name == "gen_ai.client.operation.exception"
    assert record.severity_number is SeverityNumber.WARN
    assert record.attributes[names.EXCEPTION_TYPE] == "litellm.exceptions.Timeout"
    assert (names.EXCEPTION_MESSAGE in record.attributes) is shown
    assert ("Faust" in str([item.attributes for item in logs.records])) is shown


def test_without_a_logger_provider_nothing_is_built(make_entry: Entry, monkeypatch: pytest.MonkeyPatch):
    """Where nobody listens, events cost a question and no work."""
    monkeypatch.setattr(_events, "start_attributes", lambda *_, **__: pytest.fail("built for nobody"))
    for logger in (NoOpLogger("test"), ProxyLogger("test")):
        if not hasattr(logger, "enabled"):
            pytest.skip("this OpenTelemetry cannot tell whether anyone listens")
        Events(logger, content="event_only").emit(make_entry(error=ERROR), trace.INVALID_SPAN)
