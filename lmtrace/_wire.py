r"""Serialising what callers pass, without ever failing and without silently changing a meaning.

orjson does the work at full speed. What it refuses (lone surrogates, integers over 64 bits, unknown objects, odd keys) or
would change in silence (NaN and infinities become null) takes the slow path: a copy in which each odd value has become

    {"$lmtrace": "<type>", ...}

Tags that round-trip through `decode`: ``float`` (nan, inf, -inf), ``int`` (hexadecimal, which has no size limit), ``str`` (a
text with lone surrogates, these written as ``\udXXX`` and backslashes doubled, so that everything else can be read and
redacted), ``bytes``, ``dict`` (keys that are not texts, or a dictionary that itself has the key ``$lmtrace``), ``datetime``,
``date``, ``time``, ``decimal``, ``set``, ``blob`` (spilled by the store). Tags marked ``"lossy": true`` keep what a reader can
use: ``model`` (pydantic, dataclass: its data and class name), ``class`` (name, and JSON schema where it has one),
``callable``, ``object`` (the type's name only, because a `repr` may hold secrets), ``truncated`` (too deep, or a cycle).
Tuples become lists, enums their values and UUIDs their text, as JSON users expect.
"""

from __future__ import annotations

import base64
import dataclasses
import math
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

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
    """Whether this is a list of texts or of dictionaries of texts, as most outputs and messages are.

    Such a value cannot hold an odd float, and looking at its few objects is ten times cheaper than searching its bytes.
    """
    if type(value) is not list:
        return type(value) is str
    for item in value:
        if type(item) is str:
            continue
        if type(item) is not dict or TAG in item:
            return False
        for text in item.values():
            if type(text) is not str:
                return False
    return True


_SAFE: Final = frozenset({str, int, bool, type(None)})


def is_plain(value: Mapping[str, Any] | None) -> bool:
    """Whether this is nothing, or texts and whole numbers in dictionaries: what `dumps` adds to orjson is not needed."""
    if value is None:
        return True
    if type(value) is not dict or TAG in value:
        return False
    return _SAFE.issuperset(map(type, value.values())) or all(
        type(item) in _SAFE or (type(item) is dict and TAG not in item and _SAFE.issuperset(map(type, item.values())))
        for item in value.values()
    )


def encode(value: Any) -> Any:
    """A copy of `value` that is plain JSON, odd values tagged."""
    return _encode(value, 0, ())


def tagged(value: Any) -> Any:
    """What orjson asks for a value it does not know; it serialises the answer in turn."""
    return _encode_object(value, 0, ())


def has_odd_float(value: Any) -> bool:
    """Whether a NaN or an infinity is anywhere inside, or something so deep that nobody looks."""
    level = [value]
    for _ in range(DEEPEST + 1):
        deeper: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str or item is None or kind is int or kind is bool:
                continue
            if isinstance(item, float):
                if not math.isfinite(item):
                    return True
            elif isinstance(item, dict):
                deeper += list(item.values())
            elif isinstance(item, (list, tuple)):
                deeper += item
            elif isinstance(item, Enum):
                deeper.append(item.value)
        if not deeper:
            return False
        level = deeper
    return True


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
    """The form of anything but the commonest scalars; an object that fails when it is looked at gives its type."""
    try:
        return _known(value, depth, (*above, id(value)))
    except Exception:
        return {TAG: "object", "type": _type_name(type(value)), "lossy": True}


def _known(value: Any, depth: int, inner: tuple[int, ...]) -> Any:
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
        items = [_encode(item, depth + 1, inner) for item in value]
        return {TAG: "set", "items": sorted(items, key=orjson.dumps)}  # one order for equal sets
    return _foreign(value, depth, inner)


def _mapping(value: Mapping[Any, Any], depth: int, inner: tuple[int, ...]) -> Any:
    items = list(value.items())
    if all(type(key) is str and key != TAG and _is_clean(key) for key, _ in items):
        return {key: _encode(item, depth + 1, inner) for key, item in items}
    pairs = [[_encode(key, depth + 1, inner), _encode(item, depth + 1, inner)] for key, item in items]
    return {TAG: "dict", "items": pairs}


def _foreign(value: Any, depth: int, inner: tuple[int, ...]) -> Any:
    """Objects of other libraries, and last of all the bare name of a type."""
    if isinstance(value, type):
        return {TAG: "class", "type": _type_name(value), **_schema(value), "lossy": True}
    if hasattr(type(value), "model_dump"):
        return _model(value, _dumped(value), depth, inner)
    if dataclasses.is_dataclass(value):
        names = [item.name for item in dataclasses.fields(value)]
        return _model(value, {name: getattr(value, name) for name in names}, depth, inner)
    if hasattr(type(value), "tolist"):
        return _model(value, value.tolist(), depth, inner)
    if callable(value):
        name = f"{getattr(value, '__module__', '?')}.{getattr(value, '__qualname__', type(value).__name__)}"
        return {TAG: "callable", "name": _printable(name), "lossy": True}
    return {TAG: "object", "type": _type_name(type(value)), "lossy": True}


def _dumped(value: Any) -> Any:
    """A pydantic model's data, without the warnings its serialiser may have for the caller."""
    try:
        return value.model_dump(warnings=False)
    except TypeError:  # somebody else's `model_dump`
        return value.model_dump()


def _model(value: Any, data: Any, depth: int, inner: tuple[int, ...]) -> dict[str, Any]:
    return {TAG: "model", "type": _type_name(type(value)), "data": _encode(data, depth + 1, inner), "lossy": True}


def _schema(cls: Any) -> dict[str, Any]:
    describe = getattr(cls, "model_json_schema", None)
    if not callable(describe):
        return {}
    try:
        return {"schema": _encode(describe(), 0, ())}
    except Exception:  # a field that JSON Schema cannot describe
        return {}


def _type_name(cls: type) -> str:
    try:
        return _printable(f"{cls.__module__}.{cls.__qualname__}")
    except Exception:
        return "?"


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _text(value: str) -> Any:
    if _is_clean(value):
        return value
    escaped = _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", value.replace("\\", "\\\\"))
    return {TAG: "str", "escaped": escaped}


_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ESCAPE: Final = re.compile(r"\\(?:\\|u([0-9a-f]{4}))")


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else "\\", text)


def _is_clean(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


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
    (UUID, str),
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
    decoder = _DECODERS.get(str(value[TAG]))
    if decoder is None:
        raise ValueError(f"unknown tag {value[TAG]!r}; this file may come from a newer lmtrace")
    try:
        return decoder(value)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"damaged tag {value[TAG]!r}: {error}") from None


_DECODERS: Final[dict[Any, Any]] = {
    "float": lambda tag: float(tag["value"]),
    "int": lambda tag: int(tag["value"], 16),
    "str": lambda tag: _unescaped(tag["escaped"]),
    "bytes": lambda tag: base64.b64decode(tag["base64"], validate=True),
    "dict": lambda tag: {_hashable(decode(key)): decode(item) for key, item in tag["items"]},
    "datetime": lambda tag: datetime.fromisoformat(tag["value"]),
    "date": lambda tag: date.fromisoformat(tag["value"]),
    "time": lambda tag: time.fromisoformat(tag["value"]),
    "decimal": lambda tag: Decimal(tag["value"]),
    "set": lambda tag: {_hashable(decode(item)) for item in tag["items"]},
}


def _hashable(value: Any) -> Any:
    """`value` as it was before it became a key or a member: tuples and frozen sets, there is nothing else to be."""
    if isinstance(value, list):
        return tuple(_hashable(item) for item in value)
    return frozenset(value) if isinstance(value, set) else value
