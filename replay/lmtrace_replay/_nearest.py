"""The recording most like a request, found among ten thousand in a fraction of a second.

Ranked by equal fields, then by messages equal from the beginning, then by likeness of the first message that differs. The
likeness that `difflib` measures is exact and slow, so only a few get that far: a cheap guess from common beginnings, common
ends and samples of the text chooses them.
"""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from lmtrace._data import LMRequest
from lmtrace_replay._texts import Message, messages_of, parameters_of
from lmtrace_replay._words import common_beginning, common_ends, words

if TYPE_CHECKING:
    from lmtrace_replay._recording import Recording

FINALISTS = 12
"""Recordings whose texts are compared word by word."""

_SAMPLES = 8
_SAMPLE = 24
"""Characters of each sample of a text that is looked for in another."""

_LONGEST = 20_000
"""Characters of a message that are looked at to rank it."""

_MOST_WORDS = 1_500
"""Words of a message that `difflib` sees."""


def nearest(
    request: LMRequest, recordings: Sequence[Recording], among: Sequence[int], here: frozenset[int] = frozenset()
) -> list[int]:
    """The positions of the recordings most like `request`, the best first; of its own operation if there are any.

    Args:
        request: What was asked.
        recordings: All there are.
        among: The positions to look at.
        here: Positions of recordings from the place that asked; of equally alike ones, these come first.
    """
    asked = _Asked(request)
    same = [i for i in among if recordings[i].request.model_type == request.model_type]
    rough = {i: asked.rough(recordings[i].request) for i in same or among}
    finalists = heapq.nlargest(FINALISTS, rough, key=lambda i: (*rough[i], i in here, -i))
    exact = {i: (rough[i][:2], asked.likeness(recordings[i].request), i in here, -i) for i in finalists}
    return sorted(exact, key=exact.__getitem__, reverse=True)


def first_difference(recorded: Sequence[Message], asked: Sequence[Message]) -> int | None:
    """The position of the first message in which two conversations differ, or None."""
    pairs = enumerate(zip_longest(recorded, asked))
    return next((i for i, (old, new) in pairs if old != new), None)


class _Asked:
    """A request, taken apart once to be compared with many."""

    def __init__(self, request: LMRequest) -> None:
        self._request = request
        self._messages = messages_of(request)
        self._parameters = parameters_of(request)

    def rough(self, other: LMRequest) -> tuple[int, int, float]:
        """Equal fields, messages equal from the beginning, a guess at how alike the next one is."""
        messages = messages_of(other)
        at = first_difference(messages, self._messages)
        fields = int(other.model == self._request.model) + int(at is None) - self._differing(other)
        if at is None:
            return fields, len(messages), 1.0
        return fields, at, _guess(_text_at(messages, at), _text_at(self._messages, at))

    def likeness(self, other: LMRequest) -> float:
        """How alike the first messages that differ are, from 0 to 1."""
        messages = messages_of(other)
        at = first_difference(messages, self._messages)
        return 1.0 if at is None else _likeness(_text_at(messages, at), _text_at(self._messages, at))

    def _differing(self, other: LMRequest) -> int:
        """The number of parameters that differ."""
        theirs = parameters_of(other)
        return sum(theirs.get(name) != self._parameters.get(name) for name in theirs.keys() | self._parameters.keys())


def _text_at(messages: Sequence[Message], at: int) -> str:
    return messages[at].text[:_LONGEST] if at < len(messages) else ""


def _guess(one: str, other: str) -> float:
    """Roughly how much of two texts is the same, from 0 to 1, in microseconds."""
    longer = max(len(one), len(other))
    if not one or not other:
        return 0.0 if longer else 1.0
    ends = common_beginning(one, other) + common_beginning(one[::-1], other[::-1])
    step = max(1, len(other) // _SAMPLES)
    samples = [other[i : i + _SAMPLE] for i in range(0, len(other), step)]
    found = sum(sample in one for sample in samples) / len(samples)
    return (min(ends, longer) / longer + found) / 2


def _likeness(one: str, other: str) -> float:
    old, new = words(one), words(other)
    total = len(old) + len(new)
    if not total:
        return 1.0
    start, end = common_ends(old, new)
    inner = old[start : len(old) - end][:_MOST_WORDS], new[start : len(new) - end][:_MOST_WORDS]
    matched = sum(block.size for block in difflib.SequenceMatcher(None, *inner).get_matching_blocks())
    return 2 * (start + end + matched) / total
