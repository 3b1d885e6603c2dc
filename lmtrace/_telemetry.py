"""What telemetry gets of a finished call: the end of its span, its metrics and its events.

Nothing leaves the process unredacted, and making a redacted copy of an entry costs more than all the rest. The row of the
call holds the same texts and was searched just before; so the copy is made only if there was something to remove from the
row, or if there is no row with content although content is to be shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Span, Status, StatusCode

from lmtrace import _semconv as names
from lmtrace import _wire
from lmtrace._attributes import end_attributes, span_name, start_attributes
from lmtrace._entry import CallError, HistoryEntry
from lmtrace._failures import failures
from lmtrace._redacted import entry_as_asked, redacted_entry, stripped_entry

if TYPE_CHECKING:
    from lmtrace._recorder import Recorder
    from lmtrace._rows import Asked
    from lmtrace._settings import Settings


def tell(
    recorder: Recorder,
    entry: HistoryEntry,
    span: Span,
    *,
    asked: Asked | None,
    secrets: Mapping[str, Any],
    found: bool | None,
) -> None:
    """End the span, record the metrics and emit the events, each whatever becomes of the others.

    Args:
        recorder: Where to.
        entry: The finished call.
        span: Its span.
        asked: What was asked, as it was when the call began.
        secrets: The credentials of the call.
        found: Whether its row held secrets; None when there is no row.
    """
    searched = found is False and not recorder.redactor.custom
    if found is None:
        found = _holds_secrets(recorder, entry, secrets)
    shown = entry
    if found or recorder.settings.content != "no_content":
        shown = entry_as_asked(entry, asked) if searched and asked else _redacted(recorder, entry, asked, secrets)
    try:
        _end_span(recorder.settings, shown, span, rename=found)
    except Exception as failure:
        failures.note("closing a span", failure)
    try:
        if recorder.metrics is not None:
            recorder.metrics.record(shown)
        if recorder.events is not None:
            recorder.events.emit(shown, span)
    except Exception as failure:
        failures.note("recording metrics and events", failure)


def _holds_secrets(recorder: Recorder, entry: HistoryEntry, secrets: Mapping[str, Any]) -> bool:
    """Whether there are secrets in what spans and metrics show even without content."""
    response = entry.response
    texts = _wire.dumps(
        [entry.model, dict(entry.kwargs), response and response.model, response and response.response_id]
    )
    line = b'{"value":' + texts + b"}"
    return recorder.redactor.line(line, secrets) is not line


def _redacted(recorder: Recorder, entry: HistoryEntry, asked: Asked | None, secrets: Mapping[str, Any]) -> HistoryEntry:
    try:
        return redacted_entry(entry, asked, recorder.redactor, secrets)
    except Exception as failure:
        failures.note("redacting content", failure)
        return stripped_entry(entry)


def _end_span(settings: Settings, shown: HistoryEntry, span: Span, *, rename: bool) -> None:
    try:
        if span.is_recording():
            if rename:  # what was known at the start is said once more, without the secrets
                span.update_name(span_name(shown.request))
                span.set_attributes(start_attributes(shown.request, compat=settings.compat))
            span.set_attributes(
                end_attributes(shown, cost=settings.cost_attributes, content=settings.content, compat=settings.compat)
            )
            if shown.error is not None:
                _mark_failed(span, shown.error, with_message=settings.content in names.SPAN_CONTENT)
    finally:
        span.end(end_time=shown.timestamp_ns + int(shown.duration_ms * 1e6))


def _mark_failed(span: Span, error: CallError, *, with_message: bool) -> None:
    """Error status and exception event. The message only where content is wanted: providers quote prompts in it."""
    attributes = {names.EXCEPTION_TYPE: error.type}
    if with_message and error.message:
        attributes[names.EXCEPTION_MESSAGE] = error.message
    span.add_event("exception", attributes)
    span.set_status(Status(StatusCode.ERROR, error.type))
