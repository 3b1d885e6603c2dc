"""Find the long strings of a JSON text without parsing it as a whole.

A parser of C holds the GIL from the first byte to the last, half a second for a hundred megabytes, and every other thread
of the program waits. Here the text is looked at in pieces of a quarter of a megabyte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import orjson

PIECE: Final = 1 << 18

_INSIDE: Final = re.compile(
    rb'(?:[^"\\]++|\\[^u]|\\u(?![dD][89abAB])....|\\u[dD][89abAB]..\\u[dD][c-fC-F]..)*+', re.DOTALL
)
"""What may be inside a string; an escape, or a pair of them that is one character, is never cut."""


def long_strings(text: bytes, least: int) -> Iterator[tuple[int, int]]:
    """Yield where the values begin and end, quotes left out, that are strings of more than `least` bytes.

    Raises:
        ValueError: the text is no JSON.
    """
    quote = text.find(b'"')
    while quote >= 0:
        end = quote + 1
        for _, end in _bounds(text, quote + 1):  # noqa: B007  the last one counts
            pass
        if end - quote > least and text[end + 1 : end + 2] != b":":
            yield quote + 1, end
        quote = text.find(b'"', end + 1)


def pieces(text: bytes, start: int) -> Iterator[bytes]:
    """Yield the string that begins at `start` in pieces, unescaped, as UTF-8."""
    for begin, end in _bounds(text, start):
        yield orjson.loads(b'"%b"' % text[begin:end]).encode()


def _bounds(text: bytes, start: int) -> Iterator[tuple[int, int]]:
    while True:
        end = _piece_end(text, start)
        if end > start:
            yield start, end
        if text[end : end + 1] == b'"':
            return
        if end == start:
            raise ValueError("a string that does not end")
        start = end


def _piece_end(text: bytes, start: int) -> int:
    stop = min(start + PIECE, len(text))
    quote = text.find(b'"', start, stop)
    end = quote if quote >= 0 else stop
    if text.find(b"\\", start, end) >= 0:  # an encoded picture has none, and is done twenty times quicker
        found = _INSIDE.match(text, start, stop)
        end = found.end() if found else start
    while end < len(text) and text[end] & 0xC0 == 0x80:  # in the middle of a character
        end -= 1
    return end
