"""From a finished entry to the line every exporter gets: the columns of the schema, serialised and redacted once.

Messages and parameters were serialised when the call began, before the provider or another thread could change them, and
are pasted in as they are. Columns without a value are left out; readers give NULL.
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from lmtrace import _large, _wire
from lmtrace._data import LMRequest, LMResponse, LMTextPart
from lmtrace._entry import HistoryEntry, RunInfo, isoformat
from lmtrace._keys import plain_messages
from lmtrace._parameters import identifier
from lmtrace._providers import identity
from lmtrace._redactor import Redactor
from lmtrace._schema import SCHEMA_VERSION
from lmtrace._serving import TimedChunk
from lmtrace._version import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from lmtrace._shape import Shape

HOST: Final = platform.node()
_TAGS: Final = "tags"


class Asked:
    """What a request asked for, serialised at the start of its call."""

    __slots__ = ("canonical", "messages", "shape")

    def __init__(self, request: LMRequest, shape: Shape) -> None:
        self.shape = shape
        self.canonical = plain_messages(request.messages)
        """The messages as a key is made of them, where that is the same text."""
        messages = self.canonical
        self.messages = _large.dumps(request.messages, _wire.dumps) if messages is None else messages


def call_line(
    entry: HistoryEntry,
    shape: Shape,
    asked: Asked | None,
    redactor: Redactor,
    secrets: Mapping[str, Any],
    *,
    chunks: Sequence[TimedChunk] | None = None,
) -> tuple[bytes, bool]:
    """The row of a call as one JSON object, and whether a secret had to be removed from it.

    Without `asked` only metadata is kept, and no content.
    """
    row, response = _identity(entry, shape), entry.response
    if response is not None:
        _add_answer(row, entry, response)
    if entry.error is not None:
        _add_error(row, entry, content=asked is not None)
    large = asked is not None and _is_large(entry, asked)
    if asked is not None:
        _add_content(row, entry, asked, answer=not large)
        if chunks and response is not None and _is_harmless(response, redactor, secrets):
            steps = [{"ms": round(ms, 3), **chunk.to_wire()} for ms, chunk in chunks]
            row["chunks"] = orjson.Fragment(_wire.dumps(steps))
        name = entry.request.metadata.get("cache_name")
        if name is not None and entry.served_by == "provider" and not redactor.custom:
            row["cache_name"] = name
    else:
        row["kwargs"] = _harmless(entry.kwargs)
    line = _large_line(row, entry, asked) if large and asked is not None else _dump(row, entry)
    clean = redactor.line(line, secrets)
    found = clean is not line or shape.hides_key
    return (customised(clean, redactor) if redactor.custom else clean), found


def _is_large(entry: HistoryEntry, asked: Asked) -> bool:
    if len(asked.messages) > _large.LARGE:
        return True
    return bool(entry.outputs) and type(text := entry.outputs[0]) is str and len(text) > _large.LARGE


def _large_line(row: dict[str, Any], entry: HistoryEntry, asked: Asked) -> bytes:
    """The same in steps between which other threads may run."""
    raw = {"messages": asked.messages}
    if entry.response is not None:
        raw["outputs"] = _large.dumps(entry.outputs, _wire.dumps)
        raw["response"] = _large.dumps(entry.response.to_wire(), _wire.dumps)
    return _large.row_line(row, raw, lambda rest: _dump(rest, entry))


def _dump(row: dict[str, Any], entry: HistoryEntry) -> bytes:
    try:
        return orjson.dumps(row, _wire.tagged, _wire.OPTIONS)
    except (orjson.JSONEncodeError, RecursionError):
        if "response" in row and entry.response is not None:
            row["response"] = orjson.Fragment(_wire.dumps(entry.response.to_wire()))
        return orjson.dumps({name: _encoded(value) for name, value in row.items()})


def _encoded(value: Any) -> Any:
    return value if isinstance(value, orjson.Fragment) else _wire.encode(value)


def request_columns(request: LMRequest) -> dict[str, Any]:
    """The columns that follow from the request without its messages, and from the process."""
    columns: dict[str, Any] = {
        "operation": request.operation,
        "model_type": request.model_type,
        "provider": identity(request.model, request.provider)[0],
        "model": request.model,
        "streamed": request.stream,
        "schema_version": SCHEMA_VERSION,
        "lmtrace_version": __version__,
        "host": HOST,
    }
    _add_parameters(columns, request.kwargs)
    return columns


def _identity(entry: HistoryEntry, shape: Shape) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kind": "call",
        "uuid": entry.uuid,
        "timestamp": entry.timestamp,
        "duration_ms": entry.duration_ms,
        **shape.columns,
        "served_by": entry.served_by,
        "cache_hit": entry.served_by == "cache",
        "attempts": entry.attempts,
        "pid": os.getpid(),
        "thread": entry.thread,
    }
    if entry.time_to_first_chunk_ms is not None:
        row["time_to_first_chunk_ms"] = entry.time_to_first_chunk_ms
    if entry.trace_id is not None:
        row["trace_id"] = entry.trace_id
        row["span_id"] = entry.span_id
        if entry.parent_span_id is not None:
            row["parent_span_id"] = entry.parent_span_id
    if entry.scope is not None:
        row["scope"] = entry.scope
    if entry.path is not None:
        row["path"] = entry.path
    if entry.request_key is not None:
        row["request_key"] = entry.request_key
    if entry.run is not None:
        add_run(row, entry.run)
    row.update(entry.details)
    return row


def span_columns(
    span: SpanContext, parent: SpanContext, start_ns: int, duration_ms: float, error: BaseException | None
) -> dict[str, Any]:
    """The columns that every stored span has: its identity, its times and how it ended."""
    row: dict[str, Any] = {
        "kind": "span",
        "span_id": f"{span.span_id:016x}",
        "trace_id": f"{span.trace_id:032x}",
        "timestamp": isoformat(start_ns),
        "duration_ms": duration_ms,
        "status": "ok" if error is None else "error",
        "schema_version": SCHEMA_VERSION,
        "lmtrace_version": __version__,
        "host": HOST,
        "pid": os.getpid(),
        "thread": threading.current_thread().name,
    }
    if parent.is_valid:
        row["parent_span_id"] = f"{parent.span_id:016x}"
    if error is not None:
        row["error_type"] = type(error).__qualname__
    return row


def add_run(row: dict[str, Any], run: RunInfo) -> None:
    """The columns of a run."""
    row["run_id"] = run.run_id
    row["run_name"] = run.name
    if run.tags:
        row[_TAGS] = dict(run.tags)


def _add_answer(row: dict[str, Any], entry: HistoryEntry, response: LMResponse) -> None:
    """The columns of what came back."""
    row["response_model"] = response.model
    row["response_id"] = response.response_id
    row["finish_reasons"] = entry.finish_reasons
    usage = response.usage
    if usage is not None:
        counts = usage.to_wire()
        row["usage"] = counts if _is_counts(counts) else orjson.Fragment(_wire.dumps(counts))
        for name in _COUNTS:
            if name in counts:
                row[name] = counts[name]
    if response.cost is not None:
        row["cost"] = response.cost
        row["cost_source"] = entry.cost_source
        row["billed_cost"] = entry.billed_cost


_COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "reasoning_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
)


def _add_parameters(row: dict[str, Any], kwargs: Mapping[str, Any]) -> None:
    rollout = kwargs.get("rollout_id")
    if rollout is not None:
        row["rollout_id"] = rollout if type(rollout) is str else identifier(rollout)
    temperature = kwargs.get("temperature")
    if (type(temperature) is int or type(temperature) is float) and abs(temperature) < 2**53:
        row["temperature"] = temperature
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        limit = kwargs.get(name)
        if type(limit) is int and abs(limit) < 2**63:
            row["max_tokens"] = limit
            return


def _add_error(row: dict[str, Any], entry: HistoryEntry, *, content: bool) -> None:
    error = entry.error
    if error is None:
        return
    row["error_type"] = error.type
    row["error_status"] = error.status
    row["error_code"] = error.code
    if error.retry_after is not None:
        row["error_retry_after"] = error.retry_after
    if content:
        row["error_message"] = error.message


def _add_content(row: dict[str, Any], entry: HistoryEntry, asked: Asked, *, answer: bool) -> None:
    shape = asked.shape
    if entry.request.prompt is not None:
        row["prompt"] = entry.request.prompt
    row["messages"] = orjson.Fragment(asked.messages)
    row["kwargs"] = orjson.Fragment(shape.kwargs)
    if shape.tools is not None:
        row["tools"] = orjson.Fragment(shape.tools)
    response = entry.response
    if response is not None and answer:
        if _is_text(response):
            row["outputs"] = entry.outputs
            row["response"] = response.wire_with(row.get("usage"))
        else:
            row["outputs"] = orjson.Fragment(_wire.dumps(entry.outputs))
            row["response"] = orjson.Fragment(_wire.dumps(response.to_wire()))


def _is_counts(usage: dict[str, Any]) -> bool:
    """Whether the JSON form of a usage is whole numbers and the provider's own plain ones, so that nothing in it needs a tag."""
    return (
        _COUNTED.issuperset(map(type, usage.values())) and _is_plain(usage.get("details")) and "metadata" not in usage
    )


_COUNTED: Final = frozenset({int, dict})


def _is_text(response: LMResponse) -> bool:
    """Whether an answer is text and little else, so that nothing in it needs a tag."""
    if response.cost is not None and not response.cost < _INFINITE:
        return False
    for output in response.outputs:
        if len(output.parts) != 1 or type(part := output.parts[0]) is not LMTextPart or part.provider_data is not None:
            return False
        if output.logprobs is not None or not (_is_plain(output.provider_data) and _is_plain(output.metadata)):
            return False
    return _is_plain(response.provider_data) and _is_plain(response.metadata)


_INFINITE: Final = float("inf")
_is_plain: Final = _wire.is_plain


_HARMLESS: Final = frozenset({int, float, bool, type(None)})


def _harmless(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that cannot hold content: numbers and switches."""
    return {name: value for name, value in kwargs.items() if type(value) in _HARMLESS}


def _is_harmless(response: LMResponse, redactor: Redactor, secrets: Mapping[str, Any]) -> bool:
    """Whether nothing in a streamed answer has to be removed: a secret in pieces would not be found in its chunks."""
    answer = response.to_wire()
    text = _wire.dumps(answer)
    return redactor.line(text, secrets) == text and not (redactor.custom and redactor.walk(answer) != answer)


_REDACTABLE: Final = (
    "prompt",
    "messages",
    "kwargs",
    "tools",
    "outputs",
    "response",
    "chunks",
    "error_message",
    "inputs",
)
"""Columns of calls and of other spans that hold content."""


def customised(line: bytes, redactor: Redactor) -> bytes:
    """`line` after the user's own redactors, which see each text on its own."""
    row = orjson.loads(line)
    for name in _REDACTABLE:
        if row.get(name) is not None:
            row[name] = redactor.walk(row[name])
    return orjson.dumps(row)
