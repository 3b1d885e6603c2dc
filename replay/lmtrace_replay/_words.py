"""A diff of two texts word by word, as ``git diff --word-diff`` shows it, bounded in time and length."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence

_WORD = re.compile(r"\s*(?:\w+|[^\w\s]+)|\s+")
"""White space belongs to the word behind it: as words of their own, spaces hide what moved from `difflib`."""

MOST_WORDS = 4_000
"""Words of each text that are compared once the equal beginning and end are off."""

CONTEXT = 16
"""Words shown on each side of a change."""

LONGEST = 1_600
"""Characters of a diff."""

LONGEST_CHANGE = 400
"""Characters of one side of a change."""


def word_diff(recorded: str, asked: str) -> str:
    """What changed, as ``[-recorded-]{+asked+}`` with some words around; equal stretches become ``…``."""
    old, new = words(recorded), words(asked)
    start, end = common_ends(old, new)
    tail = old[len(old) - end :]
    inner = _changes(old[start : len(old) - end], new[start : len(new) - end])
    shown = [_end(old[:start]), *inner, _beginning(tail)]
    text = "".join(shown)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… (cut)"


def words(text: str) -> list[str]:
    """`text` in pieces: words and punctuation, each with the white space before it."""
    return _WORD.findall(text)


def common_ends(old: Sequence[str], new: Sequence[str]) -> tuple[int, int]:
    """How many items both sequences have in common at their beginning, and then at their end."""
    shorter = min(len(old), len(new))
    start = next((i for i in range(shorter) if old[i] != new[i]), shorter)
    room = shorter - start
    end = next((i for i in range(room) if old[-1 - i] != new[-1 - i]), room)
    return start, end


def common_beginning(one: str, other: str) -> int:
    """How many characters two texts begin with in common, by halving."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _changes(old: list[str], new: list[str]) -> Iterator[str]:
    cut = len(old) > MOST_WORDS or len(new) > MOST_WORDS
    matcher = difflib.SequenceMatcher(None, old[:MOST_WORDS], new[:MOST_WORDS])
    for kind, i, j, k, m in matcher.get_opcodes():
        if kind == "equal":
            yield _middle(old[i:j])
        else:
            yield _change(old[i:j], new[k:m])
    if cut:
        yield "… (the rest is not compared)"


def _change(old: Sequence[str], new: Sequence[str]) -> str:
    gone, come = "".join(old), "".join(new)
    space = gone[: len(gone) - len(gone.lstrip())]
    space = space if old and new and come.startswith(space) else ""
    gone, come = (_shown(text[len(space) :]) for text in (gone, come))
    return space + (f"[-{gone}-]" if old else "") + (f"{{+{come}+}}" if new else "")


def _shown(text: str) -> str:
    """A changed stretch with its white space visible, because that may be all that changed."""
    if len(text) > LONGEST_CHANGE:
        text = f"{text[:LONGEST_CHANGE]}…"
    return text.replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")


def _middle(part: list[str]) -> str:
    if len(part) <= 2 * CONTEXT:
        return "".join(part)
    return "".join(part[:CONTEXT]) + " …" + "".join(part[-CONTEXT:])


def _end(part: list[str]) -> str:
    return "".join(part) if len(part) <= CONTEXT else "…" + "".join(part[-CONTEXT:])


def _beginning(part: list[str]) -> str:
    return "".join(part) if len(part) <= CONTEXT else "".join(part[:CONTEXT]) + "…"
