"""One recorded call: what was asked, and what is needed to answer it again.

A recording is plain frozen data, made from a finished call, from a row of a store or from its own JSON form. The stored
request is complete, so the key can always be computed from it, whatever version of keys there is. Times and ids of the call are kept for
links only; nothing here depends on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from lmtrace import _wire
from lmtrace._data import LMRequest, LMResponse
from lmtrace._keys import KEY_VERSION, request_key
from lmtrace._providers import UNKNOWN

if TYPE_CHECKING:
    from lmtrace._entry import CallError, HistoryEntry
    from lmtrace._serving import TimedChunk

Normaliser = Callable[[str], str]
"""Replaces what differs from one execution to the next (dates, ids, paths) in a text of a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedError:
    """How a call failed: what the same public exception is made from again."""

    type: str
    """Qualified class name of the exception, as the caller of LiteLLM saw it."""
    message: str | None = None
    status: int | None = None
    """HTTP status, where there was one."""
    code: str | None = None
    """`LMError.code` of the error as `lmtrace.LM` raises it."""
    retry_after: float | None = None
    """Seconds the provider asked to wait."""

    def to_wire(self) -> dict[str, Any]:
        """The JSON form: every field that is not None."""
        return _given(self, fields(self))

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> RecordedError:
        """The error a JSON form describes.

        Raises:
            ValueError: a field is unknown, missing or of the wrong type.
        """
        return cls(**_checked(cls, wire, _ERROR_FIELDS))


_ERROR_FIELDS: Final[Mapping[str, tuple[type, ...]]] = {
    "type": (str,),
    "message": (str,),
    "status": (int,),
    "code": (str,),
    "retry_after": (int, float),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedChunk:
    """One step of a streamed answer."""

    ms: float | None = None
    """When it arrived, counted from the start of the call; None when nobody noted it."""
    text: str = ""
    reasoning: str = ""
    index: int = 0
    """Which candidate it belongs to."""
    data: Any = None
    """The provider library's own chunk as plain data, where it says more than text."""

    def to_wire(self) -> dict[str, Any]:
        """The JSON form: every field that says something."""
        wire: dict[str, Any] = {} if self.ms is None else {"ms": self.ms}
        for name in ("text", "reasoning", "index", "data"):
            value = getattr(self, name)
            if value:
                wire[name] = value
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> RecordedChunk:
        """The chunk a JSON form describes.

        Raises:
            ValueError: a field is unknown or of the wrong type.
        """
        return cls(**_checked(cls, wire, _CHUNK_FIELDS))


_CHUNK_FIELDS: Final[Mapping[str, tuple[type, ...]]] = {
    "ms": (int, float),
    "text": (str,),
    "reasoning": (str,),
    "index": (int,),
    "data": (dict,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One recorded call."""

    request: LMRequest
    response: LMResponse | None = None
    """None where the call failed before anything arrived."""
    error: RecordedError | None = None
    chunks: Sequence[RecordedChunk] | None = None
    """The steps of a streamed answer, where they were kept."""

    path: str | None = None
    """Logical path of the task that asked."""
    scope: str | None = None
    """Module path of the caller."""

    request_key: str | None = None
    """The key the request had when it was asked, where somebody noted it."""
    uuid: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    timestamp_ns: int = 0
    """Start of the call, by which recordings are ordered."""

    @property
    def rollout_id(self) -> Any:
        """The rollout the request belongs to, or None."""
        return self.request.rollout_id

    def key(self, normalisers: Sequence[Normaliser] = ()) -> str:
        """The key of the request, computed anew."""
        if not normalisers:
            return request_key(self.request)
        from lmtrace_replay._normal import normalised

        return request_key(normalised(self.request, normalisers))

    def key_when_asked(self, normalisers: Sequence[Normaliser] = ()) -> str:
        """The key by which live requests find this recording.

        What was noted when the request was asked comes before what the kept request says: a redactor may have been between.
        """
        noted = self.request_key
        is_current = noted is not None and noted.startswith(_CURRENT) and not normalisers
        return noted if is_current and noted is not None else self.key(normalisers)

    def to_wire(self) -> dict[str, Any]:
        """The JSON form: plain data, without what differs from one recording of the same answer to the next.

        Chunks keep their times; a format that wants to be the same again leaves ``ms`` out.
        """
        wire: dict[str, Any] = {"request": _wire.encode(self.request.to_wire())}
        if self.response is not None:
            wire["response"] = _wire.encode(self.response.to_wire())
        if self.error is not None:
            wire["error"] = self.error.to_wire()
        if self.chunks is not None:
            wire["chunks"] = [_wire.encode(chunk.to_wire()) for chunk in self.chunks]
        return wire | {name: value for name in _PLACE if (value := getattr(self, name)) is not None}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Recording:
        """The recording a JSON form describes.

        Raises:
            ValueError: a field is unknown, missing or of the wrong type.
        """
        given = _checked(cls, wire, _FIELDS)
        given["request"] = LMRequest.from_wire(_wire.decode(given["request"]))
        if "response" in given:
            given["response"] = LMResponse.from_wire(_wire.decode(given["response"]))
        if "error" in given:
            given["error"] = RecordedError.from_wire(given["error"])
        if "chunks" in given:
            given["chunks"] = _chunks(given["chunks"])
        return cls(**given)

    @classmethod
    def from_row(cls, row: Mapping[str, Any], *, encoded: bool = False) -> Recording:
        """The recording in a row of a store.

        Args:
            row: The columns, as an exporter's `Record.row` or a line of a journal has them.
            encoded: Whether JSON columns are texts, as DuckDB and Parquet give them.

        Raises:
            ValueError: the row holds no content (the store kept metadata only), or is damaged.
        """
        given = {name: _column(value, encoded=encoded) for name in _JSON if (value := row.get(name)) is not None}
        if "messages" not in given and row.get("prompt") is None:
            raise ValueError("the row holds no messages: it was recorded with capture='metadata'")
        response = given.get("response")
        return cls(
            request=_row_request(row, given),
            response=None if response is None else LMResponse.from_wire(response),
            error=_row_error(row),
            chunks=_chunks(given["chunks"]) if "chunks" in given else None,
            path=row.get("path"),
            scope=row.get("scope"),
            request_key=row.get("request_key"),
            uuid=row.get("uuid"),
            trace_id=row.get("trace_id"),
            span_id=row.get("span_id"),
        )

    @classmethod
    def from_entry(cls, entry: HistoryEntry, chunks: Sequence[TimedChunk] | None = None) -> Recording:
        """The recording of a call that has just finished; what its caller does with the request from now on is not in it."""
        error = entry.error
        return cls(
            request=_snapshot(entry.request),
            response=entry.response,
            error=None if error is None else _recorded_error(error),
            chunks=None if chunks is None else [RecordedChunk(ms=ms, **chunk.to_wire()) for ms, chunk in chunks],
            path=entry.path,
            scope=entry.scope,
            request_key=entry.request_key,
            uuid=entry.uuid,
            trace_id=entry.trace_id,
            span_id=entry.span_id,
            timestamp_ns=entry.timestamp_ns,
        )


def _snapshot(request: LMRequest) -> LMRequest:
    """A copy of a request that shares nothing with its caller, who may append to the very list of messages."""
    return replace(request, messages=_copied(request.messages), kwargs=_copied(dict(request.kwargs)))


def _copied(value: Any) -> Any:
    return _wire.decode(orjson.loads(_wire.dumps(value)))


_CURRENT: Final = f"{KEY_VERSION}:"


_PLACE: Final = ("path", "scope")

_FIELDS: Final[Mapping[str, tuple[type, ...]]] = {
    "request": (dict,),
    "response": (dict,),
    "error": (dict,),
    "chunks": (list,),
    "path": (str,),
    "scope": (str,),
}

_JSON: Final = ("messages", "kwargs", "tools", "response", "chunks")
"""Columns that hold JSON."""


def _column(value: Any, *, encoded: bool) -> Any:
    return _wire.decode(orjson.loads(value) if encoded else value)


def _row_request(row: Mapping[str, Any], given: Mapping[str, Any]) -> LMRequest:
    kwargs = dict(given.get("kwargs") or {})
    if given.get("tools") is not None:
        kwargs["tools"] = given["tools"]
    return LMRequest(
        model=row["model"],
        model_type=row["model_type"],
        messages=given.get("messages"),
        prompt=row.get("prompt"),
        kwargs=kwargs,
        stream=bool(row.get("streamed")),
        provider=None if row.get("provider") == UNKNOWN else row.get("provider"),
    )


def _row_error(row: Mapping[str, Any]) -> RecordedError | None:
    if row.get("error_type") is None:
        return None
    return RecordedError(
        type=row["error_type"],
        message=row.get("error_message"),
        status=row.get("error_status"),
        code=row.get("error_code"),
        retry_after=row.get("error_retry_after"),
    )


def _recorded_error(error: CallError) -> RecordedError:
    return RecordedError(
        type=error.type, message=error.message, status=error.status, code=error.code, retry_after=error.retry_after
    )


def _chunks(wire: Any) -> list[RecordedChunk]:
    return [RecordedChunk.from_wire(_wire.decode(chunk)) for chunk in wire]


def _given(value: Any, named: Any) -> dict[str, Any]:
    return {item.name: found for item in named if (found := getattr(value, item.name)) is not None}


def _checked(cls: type, wire: Any, types: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    """The fields of a JSON object after a look at their names and types, nulls left out."""
    if not isinstance(wire, Mapping):
        raise ValueError(f"{cls.__name__} must be an object, not {type(wire).__name__}")
    for name, value in wire.items():
        if name not in types:
            raise ValueError(f"{cls.__name__} has no field {name!r}; it has {', '.join(types)}")
        if value is not None and type(value) not in types[name]:
            raise ValueError(f"{cls.__name__}.{name} must be {types[name][-1].__name__}, not {type(value).__name__}")
    first = next(iter(types))
    if first in ("request", "type") and wire.get(first) is None:
        raise ValueError(f"{cls.__name__}.{first} is missing")
    return {name: value for name, value in wire.items() if value is not None}
