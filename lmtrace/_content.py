"""Message content as JSON text of a bounded size, whatever is in it.

A text is cut inside its strings and then between its items, so that it stays valid JSON with its structure whole;
Honeycomb refuses fields over 65,535 bytes, and the SDK's own length limit would cut in the middle of the JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

CONTENT_LIMIT: Final = 60_000
"""Bytes of one content attribute, encoded as UTF-8."""

_CUTS: Final = (16_384, 4_096, 1_024, 256, 64)
"""Characters a string inside may keep, tried in turn."""

_MARKER: Final = 200
"""Bytes kept free for brackets and the note about what was left out."""

_HUGE: Final = 2**63
_DEPTH: Final = 40


def encode(items: list[Any], limit: int = CONTENT_LIMIT) -> tuple[str, bool]:
    """The items as JSON text of at most `limit` bytes, and whether they had to be cut.

    The longest strings are cut first; each then ends in a note of how many characters are missing. If that is not enough,
    items are left out between the first and the last ones, and a generic item says how many.
    """
    text = dump(items)
    if _fits(text, limit):
        return text, False
    items = orjson.loads(text)  # a plain tree from here on
    lengths = list(_lengths(items))
    for allowed in _CUTS:
        if sum(min(length, allowed) for length in lengths) <= limit:
            text = dump(_cut(items, allowed))
            if _fits(text, limit):
                return text, True
    return dump(_ends(items, limit)), True


def dump(value: Any) -> str:
    """The value as compact JSON; what JSON has no form for becomes a text that names its class."""
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError, RecursionError):
        return orjson.dumps(_plain(value, ())).decode()


def _plain(value: Any, around: tuple[int, ...]) -> Any:
    """The value as JSON can hold it: no lone surrogates, huge numbers, foreign objects, deep or circular nesting."""
    if isinstance(value, str):
        return _clean(value)
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if abs(value) < _HUGE else str(value)
    nested = len(around) < _DEPTH and id(value) not in around
    if nested and isinstance(value, Mapping):
        return {_key(key): _plain(item, (*around, id(value))) for key, item in value.items()}
    if nested and isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, (*around, id(value))) for item in value]
    return _class(value)


def _key(key: Any) -> str:
    return _clean(str(key)) if isinstance(key, (str, int, float, bool)) else _class(key)


def _class(value: Any) -> str:
    """What stands for a foreign object: not its repr, which may hold anything, credentials included."""
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _clean(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _fits(text: str, limit: int) -> bool:
    return len(text) <= limit // 4 or len(text.encode()) <= limit  # a character has at most four bytes


def _lengths(value: Any) -> Iterator[int]:
    """The lengths of all strings inside, keys left out."""
    if isinstance(value, str):
        yield len(value)
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _lengths(item)


def _cut(value: Any, allowed: int) -> Any:
    if isinstance(value, str):
        left_out = len(value) - allowed
        return f"{value[:allowed]}… [{left_out} characters cut]" if left_out > 0 else value
    if isinstance(value, dict):
        return {key: _cut(item, allowed) for key, item in value.items()}
    if isinstance(value, list):
        return [_cut(item, allowed) for item in value]
    return value


def _ends(items: list[Any], limit: int) -> list[Any]:
    """The first item and as many of the last as fit: the end of a conversation is what the answer answers."""
    budget = limit - _MARKER
    head = [_cut(items[0], _CUTS[-1])]
    size = _size(head[0])
    if size <= budget // 4:
        budget -= size
    else:
        head = []
    tail: list[Any] = []
    for item in reversed(items[len(head) :]):
        short = _cut(item, _CUTS[-1])
        budget -= _size(short)
        if budget < 0:
            break
        tail.append(short)
    return [*head, _omitted(len(items) - len(head) - len(tail)), *reversed(tail)]


def _size(item: Any) -> int:
    return len(dump(item).encode()) + 1  # and a comma


def _omitted(count: int) -> dict[str, Any]:
    """The note for items left out, valid as a message, a part and a tool definition alike."""
    name = f"[{count} items cut]"
    return {"type": "truncated", "name": name, "role": "truncated", "parts": [], "finish_reason": "truncated"}
