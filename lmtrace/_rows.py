"""From a finished entry to the line every exporter gets: the columns of the schema, serialised and redacted once.

Messages and parameters were serialised when the call began, before the provider or another thread could change them, and
are pasted in as they are. Columns without a value are left out; readers give NULL.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from lmtrace import _wire
from lmtrace._entry import HistoryEntry, RunInfo
from lmtrace._keys import plain_messages
from lmtrace._parameters import identifier
from lmtrace._providers import identity
from lmtrace._redactor import Redactor
from lmtrace._schema import SCHEMA_VERSION
from lmtrace._serving import TimedChunk
from lmtrace._version import __version__

HOST: Final = platform.node()
_TAGS: Final = "tags"


_SCALARS: Final = frozenset({int, float, bool, type(None)})


class Asked:
    """What a request asked for, serialised at the start of its call."""

    __slots__ = ("canonical", "kwargs", "messages", "prompt", "tools")

    def __init__(self, messages: Any, prompt: str | None, kwargs: Mapping[str, Any], redactor: Redactor) -> None:
        self.canonical = plain_messages(messages)
        """The messages as a key is made of them, where that is the same text."""
        self.messages = _wire.dumps(messages) if self.canonical is None else self.canonical
        self.prompt = prompt
        tools = kwargs.get("tools")
        self.tools = None if tools is None else _wire.dumps(tools)
        plain = kwargs if tools is None else {name: value for name, value in kwargs.items() if name != "tools"}
        text = _wire.dumps(plain if type(plain) is dict else dict(plain))
        self.kwargs = text if _SCALARS.issuperset(map(type, plain.values())) else redactor.shapes(text)


def call_line(
    entry: HistoryEntry,
    asked: Asked | None,
    redactor: Redactor,
    secrets: Mapping[str, Any],
    chunks: Sequence[TimedChunk] | None = None,
) -> bytes:
    """The row of a call as one JSON object. Without `asked` only metadata is kept, and no content."""
    row = _identity(entry)
    answer = None if entry.response is None else entry.response.to_wire()
    if entry.kwargs:
        _add_parameters(row, entry.kwargs)
    if answer is not None:
        _add_answer(row, entry, answer)
    if entry.error is not None:
        _add_error(row, entry, content=asked is not None)
    if asked is not None:
        _add_content(row, entry, asked, answer)
        if chunks and answer is not None and _is_harmless(answer, redactor, secrets):
            steps = [{"ms": round(ms, 3), **chunk.to_wire()} for ms, chunk in chunks]
            row["chunks"] = orjson.Fragment(_wire.dumps(steps))
        name = entry.request.metadata.get("cache_name")
        if name is not None and entry.served_by == "provider" and not redactor.custom:
            row["cache_name"] = name
    else:
        row["kwargs"] = _harmless(entry.kwargs)
    line = redactor.line(_dump(row), secrets)
    return _customised(line, redactor) if redactor.custom else line


def _dump(row: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(row, _wire.tagged, _wire.OPTIONS)
    except (orjson.JSONEncodeError, RecursionError):
        return orjson.dumps({name: _encoded(value) for name, value in row.items()})


def _encoded(value: Any) -> Any:
    return value if isinstance(value, orjson.Fragment) else _wire.encode(value)


def _identity(entry: HistoryEntry) -> dict[str, Any]:
    request = entry.request
    row: dict[str, Any] = {
        "kind": "call",
        "uuid": entry.uuid,
        "timestamp": entry.timestamp,
        "duration_ms": entry.duration_ms,
        "operation": request.operation,
        "model_type": request.model_type,
        "provider": identity(request.model, request.provider)[0],
        "model": request.model,
        "served_by": entry.served_by,
        "cache_hit": entry.served_by == "cache",
        "attempts": entry.attempts,
        "streamed": entry.streamed,
        "schema_version": SCHEMA_VERSION,
        "lmtrace_version": __version__,
        "host": HOST,
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
    return row


def add_run(row: dict[str, Any], run: RunInfo) -> None:
    """The columns of a run."""
    row["run_id"] = run.run_id
    row["run_name"] = run.name
    if run.tags:
        row[_TAGS] = dict(run.tags)


def _add_answer(row: dict[str, Any], entry: HistoryEntry, answer: dict[str, Any]) -> None:
    """The columns of what came back; `answer` is its JSON form."""
    row["response_model"] = answer.get("model")
    row["response_id"] = answer.get("response_id")
    row["finish_reasons"] = entry.finish_reasons
    usage = answer.get("usage")
    if usage is not None:
        row["usage"] = usage
        row.update({name: value for name, value in usage.items() if name in _COUNTS})
    if "cost" in answer:
        row["cost"] = answer["cost"]
        row["cost_source"] = entry.cost_source
        row["billed_cost"] = entry.billed_cost


_COUNTS: Final = frozenset(
    {"input_tokens", "output_tokens", "total_tokens", "reasoning_tokens", "cache_read_tokens", "cache_write_tokens"}
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


def _add_content(row: dict[str, Any], entry: HistoryEntry, asked: Asked, answer: dict[str, Any] | None) -> None:
    if asked.prompt is not None:
        row["prompt"] = asked.prompt
    row["messages"] = orjson.Fragment(asked.messages)
    row["kwargs"] = orjson.Fragment(asked.kwargs)
    if asked.tools is not None:
        row["tools"] = orjson.Fragment(asked.tools)
    if answer is not None:
        row["outputs"] = orjson.Fragment(_wire.dumps(entry.outputs))
        row["response"] = orjson.Fragment(_wire.dumps(answer))


def _harmless(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that cannot hold content: numbers and switches."""
    return {name: value for name, value in kwargs.items() if type(value) in _SCALARS}


def _is_harmless(answer: dict[str, Any], redactor: Redactor, secrets: Mapping[str, Any]) -> bool:
    """Whether nothing in a streamed answer has to be removed: a secret in pieces would not be found in its chunks."""
    text = _wire.dumps(answer)
    return redactor.line(text, secrets) == text and not (redactor.custom and redactor.walk(answer) != answer)


_REDACTABLE: Final = ("prompt", "messages", "kwargs", "tools", "outputs", "response", "chunks", "error_message")


def _customised(line: bytes, redactor: Redactor) -> bytes:
    """`line` after the user's own redactors, which see each text on its own."""
    row = orjson.loads(line)
    for name in _REDACTABLE:
        if row.get(name) is not None:
            row[name] = redactor.walk(row[name])
    return orjson.dumps(row)
