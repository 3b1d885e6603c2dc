"""Texts of more than a megabyte, serialised, normalised and searched in pieces.

A function of C holds the GIL from the first byte to the last: one and a half seconds for a prompt of a hundred megabytes
while the machine is busy, and every other thread of the program waits. Here each step is a quarter of a megabyte, and Python may
switch threads after it. `bytes.join` and `hashlib` let the others run by themselves.

Everyone else asks only whether a length is above `LARGE`, so the ordinary call pays a comparison.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson

LARGE: Final = 1 << 20
"""Characters, or bytes, from which on a text is treated in pieces."""

PIECE: Final = 1 << 18
"""Characters, or bytes, of a step."""

_DEEPEST: Final = 20
_LONGEST_SEARCH: Final = 1 << 12
"""How far behind the end of a piece to look for a place to cut."""

Dump = Callable[[Any], bytes]


class Quoted(tuple[bytes, ...]):
    """A JSON string, quotes included, in pieces."""

    __slots__ = ()


def holds_large(value: Any, depth: int = 0) -> bool:
    """Whether a large text is somewhere in lists and dictionaries."""
    kind = type(value)
    if kind is str:
        return len(value) > LARGE
    if kind is dict:
        return depth < _DEEPEST and any(holds_large(item, depth + 1) for item in value.values())
    if kind is list or kind is tuple:
        return depth < _DEEPEST and any(holds_large(item, depth + 1) for item in value)
    return kind is Quoted


def dumps(value: Any, dump: Dump, *, sort: bool = False) -> bytes:
    """What `dump` gives for `value`, made in pieces where it holds large texts."""
    return b"".join(_pieces(value, dump, sort=sort)) if holds_large(value) else dump(value)


def fragment(value: Any) -> orjson.Fragment:
    """What orjson asks for a large text that stands where nobody looked for one.

    Raises:
        TypeError: it is something else.
    """
    if type(value) is Quoted:
        return orjson.Fragment(b"".join(value))
    raise TypeError(type(value).__name__)


def row_line(row: dict[str, Any], raw: dict[str, bytes], dump: Dump) -> bytes:
    """A row as one JSON object, with the columns in `raw` that are JSON already."""
    texts = {name: value for name, value in row.items() if type(value) is str and len(value) > LARGE}
    parts = [dump({name: value for name, value in row.items() if name not in texts and name not in raw})[:-1]]
    for name, value in texts.items():
        parts += (b',"%b":' % name.encode(), *_pieces(value, dump, sort=False))
    for name, text in raw.items():
        parts += (b',"%b":' % name.encode(), text)
    return b"".join((*parts, b"}"))


def find(line: bytes, needle: bytes) -> bool:
    """Whether `needle` is in `line`."""
    overlap = len(needle) - 1
    return any(line.find(needle, start, start + PIECE + overlap) >= 0 for start in range(0, len(line), PIECE))


def normal(text: str) -> Quoted | None:
    r"""A text in NFC with ``\n`` line ends, as JSON; None when it cannot be written in UTF-8."""
    return _quoted(unicodedata.normalize("NFC", piece.replace("\r\n", "\n")) for piece in _cut_safely(text))


def sha256(text: str, start: int) -> str:
    """The digest of a text from `start` on, in UTF-8."""
    digest = hashlib.sha256()
    for begin in range(start, len(text), PIECE):
        digest.update(text[begin : begin + PIECE].encode("utf-8", "replace"))
    return digest.hexdigest()


def _pieces(value: Any, dump: Dump, *, sort: bool) -> Iterator[bytes]:
    if type(value) is Quoted:
        yield from value
    elif type(value) is str and len(value) > LARGE:
        yield from _quoted(value[start : start + PIECE] for start in range(0, len(value), PIECE)) or (dump(value),)
    elif type(value) is dict and (sort or _has_plain_keys(value)) and holds_large(value):
        yield from _object(value, dump, sort=sort)
    elif type(value) in (list, tuple) and holds_large(value):
        yield from _list(value, dump, sort=sort)
    else:
        yield dump(value)


def _has_plain_keys(value: dict[Any, Any]) -> bool:
    """Whether no key needs a form of its own, as those that were normalised do not."""
    return all(type(key) is str and key.isascii() and not key.startswith("$") for key in value)


def _object(value: dict[str, Any], dump: Dump, *, sort: bool) -> Iterator[bytes]:
    before = b"{"
    for key in sorted(value) if sort else value:
        yield b"%b%b:" % (before, dump(key))
        yield from _pieces(value[key], dump, sort=sort)
        before = b","
    yield b"}"


def _list(value: list[Any], dump: Dump, *, sort: bool) -> Iterator[bytes]:
    before = b"["
    for item in value:
        yield before
        yield from _pieces(item, dump, sort=sort)
        before = b","
    yield b"]"


def _quoted(texts: Iterator[str]) -> Quoted | None:
    try:
        return Quoted((b'"', *(orjson.dumps(text)[1:-1] for text in texts), b'"'))
    except orjson.JSONEncodeError:  # a lone surrogate
        return None


def _cut_safely(text: str) -> Iterator[str]:
    """Pieces that can be normalised one by one."""
    start = 0
    while start < len(text):
        end = min(start + PIECE, len(text))
        last = min(end + _LONGEST_SEARCH, len(text))
        while end < last and not _begins(text[end]):
            end += 1
        yield text[start:end]
        start = end


def _begins(character: str) -> bool:
    """Whether no normalisation joins a character, and no line end, to what stands before it."""
    if character.isascii():
        return character != "\n"
    return (
        character.isalpha() and not "\u1100" <= character <= "\u11ff"
    )  # the parts of Korean syllables are letters, too
