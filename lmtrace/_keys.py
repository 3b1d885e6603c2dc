r"""The identity of a request: equal for requests that ask the same, different for everything else.

``lm1:`` + sha256 over canonical JSON of operation, model, messages, tools and *every parameter that is not left out by
name below*: an unknown parameter makes a different key (fail closed). Canonical means: None dropped, ``0 == 0.0``, keys
sorted, texts in Unicode NFC with ``\n`` line ends, tuples as lists, embedded media by the sha256 of their content, tool-call
ids renumbered by first appearance. Sync, async and streamed calls share a key; a rollout is matched beside it, not in it.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

import orjson

from lmtrace import _large, _wire
from lmtrace._data import LMRequest

KEY_VERSION: Final = "lm1"

LEFT_OUT: Final = frozenset(
    {
        # where the request goes and how long it may take, not what it asks
        "api_base", "base_url", "azure_endpoint", "api_version", "organization", "custom_llm_provider",
        "timeout", "request_timeout", "stream_timeout", "num_retries", "max_retries", "retry_strategy",
        "cooldown_time", "fallbacks", "context_window_fallback_dict", "deployment_id",
        # bookkeeping of callers and libraries
        "user", "metadata", "litellm_metadata", "litellm_call_id", "litellm_trace_id", "litellm_logging_obj",
        "callbacks", "success_callback", "failure_callback", "logger_fn", "verbose", "store", "tags",
        "input_cost_per_token", "output_cost_per_token", "model_info", "proxy_server_request", "aembedding",
        "acompletion", "atext_completion", "aresponses", "specific_deployment", "model_list", "no-log",
        # how the answer travels and where copies of it may come from
        "stream", "stream_options", "cache", "caching", "cache_key", "ttl", "no-cache", "rollout_id",
    }
)  # fmt: skip
"""Parameters that do not change what is asked. The one list; credentials never reach this module."""

_DATA_URL = re.compile(r"data:(?:[\w/+.\-]+)?(?:;[\w=.\-]+)*,")


def request_key(request: LMRequest) -> str:
    """The key of a request, as ``lm1:<64 hex digits>``."""
    return f"{KEY_VERSION}:{_sha256(canonical(request))}"


def framed_key(frame: tuple[bytes, bytes], messages: bytes) -> str:
    """The same key, by whoever has its two halves: what `frame` and `plain_messages` gave for the request."""
    return f"{KEY_VERSION}:{_sha256(frame[0], messages, frame[1])}"


def plain_messages(messages: Any) -> bytes | None:
    """The canonical JSON of messages that are role and text only, or None where that takes more than serialising.

    It is ten times cheaper than the general way, and the same text serves the row: in memory that was not touched for a
    while, each further copy of a long prompt costs as much as all the rest of a key.
    """
    if type(messages) is list and all(map(_is_plain_message, messages)):
        return orjson.dumps(messages, option=orjson.OPT_SORT_KEYS)
    return None


_HELD: Final = 2047
"""Bytes hashlib hashes without releasing the GIL; beside CPU-bound threads, getting it back costs milliseconds."""

_HELD_TOTAL: Final = 1 << 18
"""Bytes up to which holding on to the GIL is cheaper for everybody."""


_EMPTY: Final = hashlib.sha256()
"""Copied for each digest: asking OpenSSL for the algorithm costs more than hashing a short text."""


def _sha256(*parts: bytes) -> str:
    digest = _EMPTY.copy()
    for part in parts:
        if len(part) <= _HELD or len(part) > _HELD_TOTAL:
            digest.update(part)
            continue
        view = memoryview(part)
        for start in range(0, len(part), _HELD):
            digest.update(view[start : start + _HELD])
    return digest.hexdigest()


def canonical(request: LMRequest) -> bytes:
    """The canonical JSON the key is made from."""
    messages = plain_messages(request.messages)
    if messages is not None:
        return _joined(frame(request), messages)
    try:
        return _canonical(request, _asked(request), request.kwargs)
    except (RecursionError, orjson.JSONEncodeError):  # a cycle, or nesting deeper than anyone can write
        return _canonical(request, _wire.encode(_asked(request)), _wire.encode(dict(request.kwargs)))


def _asked(request: LMRequest) -> Any:
    """The messages, or the bare prompt where the provider gets that."""
    return request.prompt if request.messages is None else request.messages


def _canonical(request: LMRequest, messages: Any, kwargs: Mapping[str, Any]) -> bytes:
    text = _large.dumps(_normal(messages, {}), _sorted, sort=True)
    return _joined(_frame(request, kwargs), text)


def _sorted(value: Any) -> bytes:
    return orjson.dumps(value, _large.fragment, orjson.OPT_SORT_KEYS)


def _joined(frame: tuple[bytes, bytes], messages: bytes) -> bytes:
    return b"".join((frame[0], messages, frame[1]))


def frame(request: LMRequest) -> tuple[bytes, bytes]:
    """What stands before and after the messages in the canonical JSON: one object, its keys sorted."""
    try:
        return _frame(request, request.kwargs)
    except (RecursionError, orjson.JSONEncodeError):
        return _frame(request, _wire.encode(dict(request.kwargs)))


def _frame(request: LMRequest, kwargs: Mapping[str, Any]) -> tuple[bytes, bytes]:
    rest = {
        "model": _normal(request.model, None),
        "operation": request.operation,
        "parameters": {
            name: _normal(value, None)
            for name, value in kwargs.items()
            if value is not None and name not in LEFT_OUT and not name.startswith("litellm_")
        },
    }
    head = b'{"api":"%b","messages":' % request.model_type.encode()
    return head, b"," + orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)[1:]


def _is_plain_message(message: Any) -> bool:
    """Role and text only, with nothing in it that has two spellings."""
    if type(message) is not dict or len(message) != 2:
        return False
    content, role = message.get("content"), message.get("role")
    if type(content) is not str or len(content) > _large.LARGE:
        return False
    if not content.isascii() or "\r" in content or content.startswith("data:"):
        return False
    return type(role) is str and role.isascii()


_Ids = dict[str, str] | None
"""Numbers given to tool-call ids so far; None where an id is not one of a tool call."""


def _normal(value: Any, ids: _Ids, name: str = "") -> Any:
    kind = type(value)
    if kind is str:
        return _normal_text(value, ids, name)
    if kind is float:
        return int(value) if value.is_integer() and abs(value) < 2**53 else _wire.encode(value)
    if kind is bool or kind is int or value is None:
        return _wire.encode(value)
    if kind is list or kind is tuple:
        return [_normal(item, ids) for item in value]
    if kind is dict:
        return _normal_mapping(value, ids)
    return _normal(_plain(_wire.encode(value)), ids, name)


def _normal_mapping(value: dict[Any, Any], ids: _Ids) -> Any:
    if value.get("lossy") is True and (plain := _plain(value)) is not value:
        return _normal(plain, ids)  # a class or an object in a request that was stored
    if _wire.TAG in value or not all(type(key) is str for key in value):
        return _normal_pairs(value, ids)
    return {_normal_key(key): _normal(item, ids, key) for key, item in value.items() if item is not None}


def _normal_pairs(value: dict[Any, Any], ids: _Ids) -> Any:
    """A dictionary with keys that JSON lacks, or one that is a tag or looks like it."""
    pairs = [[_normal(key, ids), _normal(item, ids)] for key, item in value.items() if item is not None]
    return [_wire.TAG, sorted(pairs, key=_sorted)]


def _normal_key(key: str) -> str:
    return key if key.isascii() else unicodedata.normalize("NFC", key).encode("utf-8", "backslashreplace").decode()


def _plain(encoded: Any) -> Any:
    """An object by its data; a class given as response format by its JSON schema alone, wherever it is defined."""
    if isinstance(encoded, dict) and _wire.TAG in encoded:
        return encoded.get("schema", encoded.get("data", encoded))
    return encoded


_TOOL_IDS: Final = frozenset({"tool_call_id", "tool_use_id", "call_id"})
_ID_BEGINNINGS: Final = ("call_", "toolu_", "fc_", "tool_")


def _normal_text(text: str, ids: _Ids, name: str) -> Any:
    if ids is not None and (name in _TOOL_IDS or (name == "id" and text.startswith(_ID_BEGINNINGS))):
        return ids.setdefault(text, f"call_{len(ids)}")
    if text.startswith("data:") and (match := _DATA_URL.match(text)) is not None:
        return {"media": match[0], "sha256": _large.sha256(text, match.end())}
    if len(text) > _large.LARGE and ids is not None and (quoted := _large.normal(text)) is not None:
        return quoted
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    return text if text.isascii() else _wire.encode(unicodedata.normalize("NFC", text))
