"""A recording without what differs from one recording of the same answer to the next.

Times, ids, addresses and latencies stay in the store; a cassette that is recorded again with the same answers must be the
same file. Names decide, in one list each, and only in the provider's own data: never in messages or tool arguments.
"""

from __future__ import annotations

from typing import Any, Final

from lmtrace import _wire
from lmtrace._data import LMRequest, LMResponse
from lmtrace._keys import LEFT_OUT, request_key
from lmtrace_replay._recording import RecordedChunk, RecordedError, Recording

VOLATILE: Final = frozenset(
    {"created", "created_at", "completed_at", "expires_at", "system_fingerprint", "_response_ms", "response_ms"}
    | {"queue_time", "prompt_time", "completion_time", "total_time"}  # Groq
    | {"total_duration", "load_duration", "prompt_eval_duration", "eval_duration"}  # Ollama
    | {"x_request_id", "request_id", "llm_provider-x-request-id"}
)
"""Fields of a provider's data that say when and where, not what."""

_ADDRESSES: Final = ("server_address", "server_port")


def tidy(wire: dict[str, Any], *, timing: bool = False) -> dict[str, Any]:
    """The JSON form of a recording as a cassette keeps it.

    Args:
        wire: What `Recording.to_wire` gave; not changed.
        timing: Whether the times of chunks are kept.
    """
    kept = {**wire, "request": _request(wire["request"])}
    if "response" in wire:
        kept["response"] = _response(wire["response"])
    if "chunks" in wire:
        kept["chunks"] = [_chunk(chunk, timing=timing) for chunk in wire["chunks"]]
    return kept


def _request(wire: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in wire.items() if name not in _ADDRESSES}
    if "messages" in kept:
        kept.pop("prompt", None)
    kwargs = kept.get("kwargs")
    if isinstance(kwargs, dict):
        kept["kwargs"] = {name: value for name, value in kwargs.items() if _asks(name, value)}
    return {name: value for name, value in kept.items() if value != {}}


def _asks(name: str, value: Any) -> bool:
    """Whether a parameter is part of what is asked; the others are left out of the key as well."""
    if name == "rollout_id":
        return value is not None
    return value is not None and name not in LEFT_OUT and not name.startswith("litellm_")


def _response(wire: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in wire.items() if name != "cache_hit"}
    for name in ("provider_data", "usage"):
        if isinstance(kept.get(name), dict):
            kept[name] = _stable(kept[name])
    outputs = kept.get("outputs")
    if isinstance(outputs, list):
        kept["outputs"] = [_output(output) for output in outputs]
    return {name: value for name, value in kept.items() if value != {}}


def _output(output: Any) -> Any:
    if not isinstance(output, dict) or not isinstance(output.get("provider_data"), dict):
        return output
    return {**output, "provider_data": _stable(output["provider_data"])}


def _chunk(wire: dict[str, Any], *, timing: bool) -> dict[str, Any] | str:
    """A chunk; one that is only a text of the first candidate is that text."""
    kept = {name: value for name, value in wire.items() if timing or name != "ms"}
    if isinstance(kept.get("data"), dict):
        kept["data"] = _stable(kept["data"])
    text = kept.get("text")
    return text if len(kept) == 1 and isinstance(text, str) else kept


def restored(wire: dict[str, Any], *, tagged: bool = True) -> Recording:
    """The recording that `tidy` described, with its key computed anew.

    What `Recording.from_wire` does for data of any origin, written out: a hundred of them must load in milliseconds.

    Args:
        wire: What `tidy` gave.
        tagged: Whether there may be tags of `lmtrace._wire` in it.

    Raises:
        ValueError: a field is unknown, missing or of the wrong type.
    """
    if not _FIELDS.issuperset(wire) or "request" not in wire:
        raise ValueError(f"a call has {', '.join(sorted(_FIELDS))}, and no {', '.join(sorted(wire.keys() - _FIELDS))}")
    decode = _wire.decode if tagged else _same
    request = LMRequest.from_wire(decode(wire["request"]))
    response, error, chunks = wire.get("response"), wire.get("error"), wire.get("chunks")
    if response is None and error is None:
        raise ValueError("it has neither a response nor an error")
    return Recording(
        request=request,
        response=None if response is None else LMResponse.from_wire(decode(response)),
        error=None if error is None else RecordedError.from_wire(error),
        chunks=None if chunks is None else [_restored_chunk(chunk) for chunk in chunks],
        path=_text_or_none(wire.get("path")),
        scope=_text_or_none(wire.get("scope")),
        request_key=request_key(request),
    )


_FIELDS: Final = frozenset({"request", "response", "error", "chunks", "path", "scope"})


def _same(value: Any) -> Any:
    return value


def _restored_chunk(wire: Any) -> RecordedChunk:
    return RecordedChunk(text=wire) if isinstance(wire, str) else RecordedChunk.from_wire(_wire.decode(wire))


def _text_or_none(value: Any) -> str | None:
    if value is not None and type(value) is not str:
        raise ValueError("path and scope must be texts")
    return value


def _stable(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _stable(value) for name, value in data.items() if name not in VOLATILE}
    return [_stable(item) for item in data] if isinstance(data, list) else data
