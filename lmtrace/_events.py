"""Events of finished calls and of evaluations, through OpenTelemetry's Logs API: what was said, and what went wrong.

Events exist for those who set a logger provider; without one nothing is built. On events messages are structured values,
as the conventions ask (on spans they are JSON texts), and the same redaction and cuts hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson

from lmtrace import _semconv as names
from lmtrace._attributes import end_attributes, start_attributes
from lmtrace._entry import CallError, HistoryEntry
from lmtrace._messages import content_attributes

if TYPE_CHECKING:
    from opentelemetry._logs import Logger, SeverityNumber
    from opentelemetry.trace import Span

_TEXTS: Final = frozenset(
    {names.INPUT_MESSAGES, names.OUTPUT_MESSAGES, names.SYSTEM_INSTRUCTIONS, names.TOOL_DEFINITIONS}
)


class Events:
    """Emits the events of calls to one logger.

    Args:
        logger: Where events go; OpenTelemetry's proxy may stand in for a provider that is set later.
        content: The content mode; `lmtrace._semconv.EVENT_CONTENT` ones emit the details of every call.
    """

    def __init__(self, logger: Logger, *, content: str = "no_content") -> None:
        self._logger = logger
        self._details = content in names.EVENT_CONTENT

    def emit(self, entry: HistoryEntry, span: Span) -> None:
        """Emit what the finished call gives reason for, correlated with its span."""
        if entry.error is None and not self._details:
            return
        if not self._listening():
            return
        if self._details:
            self._emit_details(entry, span)
        if entry.error is not None:
            self._emit_exception(entry, entry.error, span)

    def tell(
        self, name: str, attributes: Mapping[str, Any], content: Mapping[str, Any], time_ns: int, span: Span
    ) -> bool:
        """Emit an event that belongs to a span, with `content` where events show it; False if nobody receives events."""
        if not self._listening():
            return False
        from opentelemetry._logs import SeverityNumber

        shown = content if self._details else {}
        self._send(name, {**attributes, **shown}, SeverityNumber.INFO, time_ns, span)
        return True

    def _listening(self) -> bool:
        """Whether anyone receives events; before API 1.43 loggers cannot tell, and get them all."""
        enabled = getattr(self._logger, "enabled", None)
        return bool(enabled()) if callable(enabled) else True

    def _emit_details(self, entry: HistoryEntry, span: Span) -> None:
        from opentelemetry._logs import SeverityNumber

        attributes = start_attributes(entry.request, scope=entry.scope, run=entry.run)
        attributes.update(end_attributes(entry))
        attributes.update(_structured(entry))
        self._send(names.INFERENCE_DETAILS_EVENT, attributes, SeverityNumber.DEBUG, _end_ns(entry), span)

    def _emit_exception(self, entry: HistoryEntry, error: CallError, span: Span) -> None:
        """The message only where content is wanted: providers quote prompts in it."""
        from opentelemetry._logs import SeverityNumber

        attributes: dict[str, Any] = start_attributes(entry.request, scope=entry.scope, run=entry.run)
        attributes.update({names.EXCEPTION_TYPE: error.type, names.ERROR_TYPE: error.type, names.CALL_ID: entry.uuid})
        if self._details and error.message:
            attributes[names.EXCEPTION_MESSAGE] = error.message
        self._send(names.EXCEPTION_EVENT, attributes, SeverityNumber.WARN, _end_ns(entry), span)

    def _send(self, name: str, attributes: dict[str, Any], severity: SeverityNumber, time_ns: int, span: Span) -> None:
        from opentelemetry._logs import LogRecord
        from opentelemetry.trace import set_span_in_context

        record = LogRecord(
            timestamp=time_ns,
            context=set_span_in_context(span),
            severity_number=severity,
            severity_text=severity.name,
            attributes=attributes,
            event_name=name,
        )
        self._logger.emit(record)


def _end_ns(entry: HistoryEntry) -> int:
    return entry.timestamp_ns + int(entry.duration_ms * 1e6)


def _structured(entry: HistoryEntry) -> dict[str, Any]:
    """The content as values, cut as on spans: decoding the JSON text also frees them from anything JSON cannot hold."""
    return {name: orjson.loads(value) if name in _TEXTS else value for name, value in content_attributes(entry).items()}
