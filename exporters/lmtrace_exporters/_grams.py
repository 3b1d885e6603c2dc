"""Which grams a text has, so that a text which lacks one of another's cannot hold it: pieces of three and of four bytes.

Text is taken as UTF-8 without the case of ASCII letters, so it does not matter where words begin, and a part of a word is
found like a whole one. Of the grams of four bytes only those at even offsets are kept, which is half the work: a piece of
five bytes or more has grams at even offsets wherever it lies, those at its own even offsets or those at its odd ones. All
grams of three bytes follow from them.

A set of grams is a bitmap, in which a gram may be by accident and is never missing: the answer "perhaps" is checked by reading
the text, "no" is certain. DuckDB's matching without regard to case knows pairs beyond ASCII; `runs` leaves out every
character that may be one of a pair.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

MULTIPLIER: Final = 2_654_435_761
"""Spreads grams, as little-endian numbers of 32 bits, over the slots; the highest bits count."""

_KELVIN, _LONG_S = "\N{KELVIN SIGN}", "\N{LATIN SMALL LETTER LONG S}"
"""The two characters beyond ASCII that are the same as an ASCII letter without regard to case."""

_UNPAIRED: Final = frozenset("NPSZ")
"""Categories of characters without case, but for a few; `Lo` are the letters of scripts without case."""


def fold(text: bytes) -> bytes:
    """Return UTF-8 in which ASCII letters, and what equals one without regard to case, are small."""
    if b"\xaa" in text:  # a search for one byte is much quicker, and finds nothing in most texts
        text = text.replace(_KELVIN.encode(), b"k")
    if b"\xc5" in text:
        text = text.replace(_LONG_S.encode(), b"s")
    return text.lower()


def runs(text: str, *, case: bool) -> list[bytes]:
    """Return the folded pieces that every text has which holds `text`.

    Args:
        text: what is looked for.
        case: whether upper and lower case differ.
    """
    if case:
        return [fold(text.encode("utf-8", "surrogatepass"))]
    plain = text.replace(_KELVIN, "k").replace(_LONG_S, "s")
    return [fold("".join(run).encode()) for is_single, run in groupby(plain, _is_single) if is_single]


def may_hold(bitmap: bytes | memoryview, run: bytes) -> bool:
    """Tell whether a text may hold a folded run, given the bitmap of the text's grams."""
    bits = (len(bitmap) * 8).bit_length() - 1
    if not _has_all(bitmap, bits, (run[start : start + 3] for start in range(len(run) - 2))):
        return False
    return len(run) < 5 or any(_has_all(bitmap, bits, _fours(run, first)) for first in (0, 1))


def slot(gram: int, bits: int) -> int:
    """Return the place of a gram in a bitmap of ``2 ** bits``."""
    return (gram * MULTIPLIER & 0xFFFFFFFF) >> (32 - bits)


def _fours(run: bytes, first: int) -> Iterator[bytes]:
    return (run[start : start + 4] for start in range(first, len(run) - 3, 2))


def _has_all(bitmap: bytes | memoryview, bits: int, grams: Iterable[bytes]) -> bool:
    places = (slot(int.from_bytes(gram, "little"), bits) for gram in grams)
    return all(bitmap[place >> 3] >> (place & 7) & 1 for place in places)


def _is_single(character: str) -> bool:
    """Tell whether no other character, ASCII letters aside, equals this one without regard to case."""
    if character.isascii():
        return True
    category = unicodedata.category(character)
    same = character.lower() == character.upper() == character.title() == character.casefold() == character
    return same and (category[0] in _UNPAIRED or category == "Lo")
