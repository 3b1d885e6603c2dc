"""Stored rows as OpenTelemetry spans: the ids, times, attributes and status they had.

A span of a call is made by the same functions as when the call was recorded. What a row does not keep is missing: the
server's address, the conversation, and the events of attempts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from lmtrace import _semconv as names
from lmtrace._attributes import end_attributes, span_name, start_attributes
from lmtrace._data import LMOutput, LMRequest, LMResponse, LMUsage
from lmtrace._entry import CallError, HistoryEntry, RunInfo

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import SpanContext

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "reasoning_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
)
_SCALARS: Final = (str, bool, int, float)

Row = Mapping[str, Any]


def span_of(kind: str, row: Row, service: str, *, content: bool = False) -> ReadableSpan | None:
    """Return the span of a row, or None for a row that was recorded without a trace.

    Args:
        kind: ``"call"`` or ``"span"``.
        row: its columns, JSON decoded, `timestamp` in ISO form; missing ones are NULL.
        service: `service.name` of the spans.
        content: whether messages and answers, or inputs and outputs, are attributes.
    """
    context = _context(row.get("trace_id"), row.get("span_id"))
    if context is None:
        return None
    return _call_span(row, context, service, content) if kind == "call" else _other_span(row, context, service, content)


def entry_of(row: Row) -> HistoryEntry:
    """Return the finished call that a row tells of."""
    kwargs = dict(row.get("kwargs") or {})
    if row.get("tools") is not None:
        kwargs["tools"] = row["tools"]
    request = LMRequest(
        model=row["model"],
        model_type=row.get("model_type") or "chat",
        messages=row.get("messages"),
        prompt=row.get("prompt"),
        kwargs=kwargs,
        stream=bool(row.get("streamed")),
        provider=row.get("provider"),
    )
    error = row.get("error_type")
    return HistoryEntry(
        uuid=row["uuid"],
        timestamp_ns=_start_ns(row),
        duration_ms=row.get("duration_ms") or 0.0,
        time_to_first_chunk_ms=row.get("time_to_first_chunk_ms"),
        request=request,
        response=_response(row),
        error=CallError(type=error, message=row.get("error_message"), status=row.get("error_status"))
        if error
        else None,
        outputs=row.get("outputs") or [],
        run=_run(row),
        scope=row.get("scope"),
        served_by=row.get("served_by") or "provider",
        request_key=row.get("request_key"),
        attempts=row.get("attempts") or 1,
        streamed=bool(row.get("streamed")),
    )


def _call_span(row: Row, context: SpanContext, service: str, content: bool) -> ReadableSpan:  # noqa: FBT001 - private
    entry = entry_of(row)
    attributes = start_attributes(entry.request, scope=entry.scope, run=entry.run)
    attributes.update(end_attributes(entry, content="span_only" if content else "no_content"))
    return _span(row, context, service, span_name(entry.request), attributes, client=True, content=content)


def _other_span(row: Row, context: SpanContext, service: str, content: bool) -> ReadableSpan:  # noqa: FBT001 - private
    stored = row.get("attributes") or {}
    attributes = {name: value for name, value in stored.items() if _is_attribute(value)}
    run = _run(row)
    if run is not None:
        attributes |= {names.RUN_ID: run.run_id, names.RUN_NAME: run.name}
        attributes |= {names.TAG_PREFIX + tag: value for tag, value in run.tags.items()}
    if row.get("scope") is not None:
        attributes[names.SCOPE] = row["scope"]
    return _span(row, context, service, row.get("name") or "span", attributes, client=False, content=content)


def _span(
    row: Row,
    context: SpanContext,
    service: str,
    name: str,
    attributes: Mapping[str, Any],
    *,
    client: bool,
    content: bool,
) -> ReadableSpan:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanKind, Status, StatusCode

    start = _start_ns(row)
    end = start + int((row.get("duration_ms") or 0.0) * 1e6)
    error = row.get("error_type")
    failed = error is not None or row.get("status") == "error"
    return ReadableSpan(
        name,
        context,
        _context(row["trace_id"], row.get("parent_span_id")),
        resource=_resource(service, row.get("host"), row.get("pid")),
        attributes=attributes,
        events=_events(row, start, end, content) if client else (),
        kind=SpanKind.CLIENT if client else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, error) if failed else Status(),
        start_time=start,
        end_time=end,
        instrumentation_scope=InstrumentationScope(names.SCOPE_NAME, row.get("lmtrace_version"), names.SCHEMA_URL),
    )


def _events(row: Row, start: int, end: int, content: bool) -> list[Event]:  # noqa: FBT001 - private
    from opentelemetry.sdk.trace import Event

    events = []
    first = row.get("time_to_first_chunk_ms")
    if first is not None:
        events.append(Event(names.FIRST_CHUNK_EVENT, timestamp=start + int(first * 1e6)))
    if row.get("error_type") is not None:
        attributes = {names.EXCEPTION_TYPE: row["error_type"]}
        if content and row.get("error_message"):
            attributes[names.EXCEPTION_MESSAGE] = row["error_message"]
        events.append(Event("exception", attributes, end))
    return events


def _response(row: Row) -> LMResponse | None:
    """The answer as it was kept, else what the columns say of it."""
    try:
        if row.get("response") is not None:
            return LMResponse.from_wire(row["response"])
    except ValueError:  # a newer version's
        pass
    reasons = row.get("finish_reasons")
    counts = {name: row[name] for name in _COUNTS if row.get(name) is not None}
    if reasons is None and not counts and row.get("response_model") is None:
        return None
    return LMResponse(
        model=row.get("response_model"),
        outputs=[LMOutput(finish_reason=reason) for reason in reasons or [None]],
        usage=LMUsage(**counts) if counts else None,
        cost=row.get("cost"),
        response_id=row.get("response_id"),
        metadata={"cost_source": row["cost_source"]} if row.get("cost_source") else None,
    )


def _run(row: Row) -> RunInfo | None:
    if row.get("run_id") is None:
        return None
    return RunInfo(run_id=row["run_id"], name=row.get("run_name") or "", tags=row.get("tags") or {})


def _start_ns(row: Row) -> int:
    moment = datetime.fromisoformat(row["timestamp"]) - _EPOCH
    return ((moment.days * 86_400 + moment.seconds) * 1_000_000 + moment.microseconds) * 1_000


def _context(trace_id: Any, span_id: Any) -> SpanContext | None:
    from opentelemetry.trace import SpanContext, TraceFlags

    try:
        context = SpanContext(
            int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)
        )
    except (TypeError, ValueError):
        return None
    return context if context.is_valid else None


def _is_attribute(value: Any) -> bool:
    return isinstance(value, _SCALARS) or (
        isinstance(value, list) and all(isinstance(item, _SCALARS) for item in value)
    )


@lru_cache(maxsize=64)
def _resource(service: str, host: str | None, pid: int | None) -> Resource:
    from opentelemetry.sdk.resources import Resource

    attributes: dict[str, Any] = {"service.name": service, "host.name": host, "process.pid": pid}
    return Resource.create({name: value for name, value in attributes.items() if value is not None})
