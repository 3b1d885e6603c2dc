"""What changed between two texts, word by word, in time that does not grow with the square of a long prompt.

Lines are aligned first and words only inside lines that differ; a stretch with too many words stays whole.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_WORD = re.compile(r"\s+|\w+|[^\w\s]")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")

MOST_WORDS = 2_000
"""Words of a stretch that are compared one by one."""

MOST_LINES = 4_000


class Piece(NamedTuple):
    """A stretch of text: `kind` is ``=`` in both, ``-`` in the first only, ``+`` in the second only."""

    kind: str
    text: str


def word_pieces(before: str, after: str) -> list[Piece]:
    """Return both texts as stretches that are equal, gone or new; those of a kind never follow one another."""
    pieces: list[Piece] = []
    for kind, text in _by_line(_LINE.findall(before), _LINE.findall(after)):
        if pieces and pieces[-1].kind == kind:
            pieces[-1] = Piece(kind, pieces[-1].text + text)
        elif text:
            pieces.append(Piece(kind, text))
    return pieces


def _by_line(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[str, str]]:
    start, end = _common_ends(before, after)
    yield "=", "".join(before[:start])
    yield from _inner_lines(before[start : len(before) - end], after[start : len(after) - end])
    yield "=", "".join(before[len(before) - end :])


def _common_ends(before: Sequence[str], after: Sequence[str]) -> tuple[int, int]:
    shorter = min(len(before), len(after))
    start = next((i for i in range(shorter) if before[i] != after[i]), shorter)
    return start, next((i for i in range(shorter - start) if before[-1 - i] != after[-1 - i]), shorter - start)


def _inner_lines(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[str, str]]:
    if max(len(before), len(after)) > MOST_LINES:
        yield from _whole("".join(before), "".join(after))
        return
    for kind, i, j, k, m in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            yield "=", "".join(before[i:j])
        else:
            yield from _by_word(_WORD.findall("".join(before[i:j])), _WORD.findall("".join(after[k:m])))


def _by_word(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[str, str]]:
    if max(len(before), len(after)) > MOST_WORDS:
        yield from _whole("".join(before), "".join(after))
        return
    for kind, i, j, k, m in difflib.SequenceMatcher(_is_space, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            yield "=", "".join(before[i:j])
        else:
            yield from _whole("".join(before[i:j]), "".join(after[k:m]))


def _is_space(word: str) -> bool:
    return word.isspace()


def _whole(before: str, after: str) -> Iterator[tuple[str, str]]:
    yield from (piece for piece in (("-", before), ("+", after)) if piece[1])
