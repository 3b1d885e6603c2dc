"""Serialising what callers pass, without ever failing and without silently changing a meaning.

orjson does the work at full speed. What it refuses (lone surrogates, integers over 64 bits, unknown objects, odd keys) or
would change in silence (NaN and infinities become null) takes the slow path: a copy in which each odd value has become

    {"$lmtrace": "<type>", ...}

Tags that round-trip through `decode`: ``float`` (nan, inf, -inf), ``int`` (hexadecimal, which has no size limit), ``str`` (a text with lone
surrogates, base64 of its UTF-8 form, readable approximation beside), ``bytes``, ``dict`` (keys that are not texts, or a
dictionary that itself has the key ``$lmtrace``), ``datetime``, ``date``, ``time``, ``decimal``, ``set``, ``blob`` (spilled
by the store). Tags marked ``"lossy": true`` keep what a reader can use: ``model`` (pydantic, dataclass: its data and class
name), ``class`` (name, and JSON schema where it has one), ``callable``, ``object`` (the type's name only, because a `repr`
may hold secrets), ``truncated`` (too deep, or a cycle). Tuples become lists and enums their values, as JSON users expect.
"""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Final

import orjson

TAG: Final = "$lmtrace"
DEEPEST: Final = 100
"""Levels of nesting that are kept."""

OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


_SUSPICIOUS: Final = b'"$lmtrace"'
"""A tag, or a user's key that would read as one: only the slow path tells them apart."""


def dumps(value: Any) -> bytes:
    """`value` as JSON. Never raises for anything a caller can pass."""
    try:
        text = orjson.dumps(value, tagged, OPTIONS)
    except (orjson.JSONEncodeError, RecursionError):
        return orjson.dumps(encode(value))
    if not _is_flat(value) and (_SUSPICIOUS in text or (b"null" in text and has_odd_float(value))):
        return orjson.dumps(encode(value))
    return text


def _is_flat(value: Any) -> bool:
    """Whether this is a list of dictionaries of texts, as most messages are.

    Such a value cannot hold an odd float, and looking at its few objects is ten times cheaper than searching its bytes.
    """
    if type(value) is not list:
        return type(value) is str
    for item in value:
        if type(item) is not dict or TAG in item:
            return False
        for text in item.values():
            if type(text) is not str:
                return False
    return True


def encode(value: Any) -> Any:
    """A copy of `value` that is plain JSON, odd values tagged."""
    return _encode(value, 0, ())


def tagged(value: Any) -> Any:
    """What orjson asks for a value it does not know; it serialises the answer in turn."""
    return _encode_object(value, 0, ())


def has_odd_float(value: Any, depth: int = 0) -> bool:
    """Whether a NaN or an infinity is anywhere inside."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if depth > DEEPEST:
        return True
    if isinstance(value, dict):
        return any(has_odd_float(item, depth + 1) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(has_odd_float(item, depth + 1) for item in value)
    return False


def _encode(value: Any, depth: int, above: tuple[int, ...]) -> Any:
    if value is None or value is True or value is False:
        return value
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is int:
        return value if -(2**63) <= value < 2**64 else {TAG: "int", "value": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {TAG: "float", "value": repr(value)}
    if depth >= DEEPEST or id(value) in above:
        return {TAG: "truncated", "lossy": True}
    return _encode_object(value, depth, above)


def _encode_object(value: Any, depth: int, above: tuple[int, ...]) -> Any:
    inner = (*above, id(value))
    if isinstance(value, Mapping):
        return _mapping(value, depth, inner)
    if isinstance(value, (list, tuple)):
        return [_encode(item, depth + 1, inner) for item in list(value)]
    if isinstance(value, Enum):
        return _encode(value.value, depth + 1, inner)
    for kind, tagger in _SCALARS:
        if isinstance(value, kind):
            return tagger(value)
    if isinstance(value, (set, frozenset)):
        return {TAG: "set", "items": [_encode(item, depth + 1, inner) for item in _ordered(value)]}
    try:
        return _foreign(value, depth, inner)
    except Exception:
        return {TAG: "object", "type": _type_name(type(value)), "lossy": True}


def _mapping(value: Mapping[Any, Any], depth: int, inner: tuple[int, ...]) -> Any:
    try:
        items = list(value.items())
    except Exception:
        return {TAG: "object", "type": _type_name(type(value)), "lossy": True}
    if all(type(key) is str and key != TAG and _is_clean(key) for key, _ in items):
        return {key: _encode(item, depth + 1, inner) for key, item in items}
    pairs = [[_encode(key, depth + 1, inner), _encode(item, depth + 1, inner)] for key, item in items]
    return {TAG: "dict", "items": pairs}


def _foreign(value: Any, depth: int, inner: tuple[int, ...]) -> Any:
    """Objects of other libraries, and last of all the bare name of a type."""
    if isinstance(value, type):
        return {TAG: "class", "type": _type_name(value), **_schema(value), "lossy": True}
    if hasattr(type(value), "model_dump"):
        return _model(value, value.model_dump(), depth, inner)
    if dataclasses.is_dataclass(value):
        names = [item.name for item in dataclasses.fields(value)]
        return _model(value, {name: getattr(value, name) for name in names}, depth, inner)
    if hasattr(type(value), "tolist"):
        return _model(value, value.tolist(), depth, inner)
    if callable(value):
        name = f"{getattr(value, '__module__', '?')}.{getattr(value, '__qualname__', type(value).__name__)}"
        return {TAG: "callable", "name": name, "lossy": True}
    return {TAG: "object", "type": _type_name(type(value)), "lossy": True}


def _model(value: Any, data: Any, depth: int, inner: tuple[int, ...]) -> dict[str, Any]:
    return {TAG: "model", "type": _type_name(type(value)), "data": _encode(data, depth + 1, inner), "lossy": True}


def _schema(cls: Any) -> dict[str, Any]:
    describe = getattr(cls, "model_json_schema", None)
    return {"schema": _encode(describe(), 0, ())} if callable(describe) else {}


def _type_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _text(value: str) -> Any:
    if _is_clean(value):
        return value
    raw = value.encode("utf-8", "surrogatepass")
    approximation = raw.decode("utf-8", "replace")
    return {TAG: "str", "utf8": base64.b64encode(raw).decode(), "approximately": approximation}


def _is_clean(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True






def _ordered(values: Iterable[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=lambda item: (type(item).__qualname__, repr(item) if isinstance(item, str) else ""))


_SCALARS: Final[tuple[tuple[Any, Any], ...]] = (
    (str, lambda value: _text(str.__str__(value))),
    (bool, bool),
    (int, lambda value: _encode(int(value), 0, ())),
    (float, lambda value: _encode(float(value), 0, ())),
    ((bytes, bytearray, memoryview), lambda value: {TAG: "bytes", "base64": base64.b64encode(bytes(value)).decode()}),
    (datetime, lambda value: {TAG: "datetime", "value": value.isoformat()}),
    (date, lambda value: {TAG: "date", "value": value.isoformat()}),
    (time, lambda value: {TAG: "time", "value": value.isoformat()}),
    (Decimal, lambda value: {TAG: "decimal", "value": str(value)}),
)


def decode(value: Any) -> Any:
    """What `encode` was given, from parsed JSON: tags become values again, lossy tags stay as they are.

    Raises:
        ValueError: a tag is not one `encode` writes.
    """
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if TAG not in value:
        return {key: decode(item) for key, item in value.items()}
    if value.get("lossy") or value[TAG] == "blob":
        return value
    decoder = _DECODERS.get(value[TAG])
    if decoder is None:
        raise ValueError(f"unknown tag {value[TAG]!r}; this file may come from a newer lmtrace")
    return decoder(value)


_DECODERS: Final[dict[Any, Any]] = {
    "float": lambda tag: float(tag["value"]),
    "int": lambda tag: int(tag["value"], 16),
    "str": lambda tag: base64.b64decode(tag["utf8"]).decode("utf-8", "surrogatepass"),
    "bytes": lambda tag: base64.b64decode(tag["base64"]),
    "dict": lambda tag: {_hashable(decode(key)): decode(item) for key, item in tag["items"]},
    "datetime": lambda tag: datetime.fromisoformat(tag["value"]),
    "date": lambda tag: date.fromisoformat(tag["value"]),
    "time": lambda tag: time.fromisoformat(tag["value"]),
    "decimal": lambda tag: Decimal(tag["value"]),
    "set": lambda tag: {_hashable(decode(item)) for item in tag["items"]},
}


def _hashable(value: Any) -> Any:
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value
