"""Which recording answers a request: exact keys, occurrences in order, and the same choice however threads are scheduled.

Recordings with the same key and rollout form a bucket. Buckets know nothing of each other, so the order of different
requests does not matter. Inside a bucket a call that must not be cached consumes one occurrence: the first of its own
logical path, else the first of its module path, else the first. A call that may be cached gets the same occurrence
however often it asks, as a live cache would have it. Nothing here waits or reads files; one lock makes a take atomic.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

from lmtrace._data import LMRequest
from lmtrace_replay._ordinals import Ordinals
from lmtrace_replay._recording import Normaliser, Recording

Rollouts = Literal["exact", "ordinal", "ignore"]
"""How rollout ids are compared: as they are, by the order in which each task first uses them, or not at all."""

Order = Literal["any", "strict"]
"""Whether requests may come in another order than they were recorded in."""

ANY_ROLLOUT: Final = "*"


class Bucket:
    """The occurrences of one request, in the order in which they were recorded."""

    __slots__ = ("_left", "_places", "_thread", "is_ambiguous", "recordings")

    def __init__(self) -> None:
        self.recordings: list[Recording] = []
        self.is_ambiguous = False
        """Whether it holds different answers."""
        self._left: dict[int, Recording] = {}
        self._places: dict[tuple[str, str], deque[int]] = {}
        self._thread: int | None = None

    def add(self, recording: Recording, *, is_used: bool = False) -> None:
        """Append an occurrence; a used one is not given to calls that must not be cached."""
        number = len(self.recordings)
        if self.recordings and not self.is_ambiguous:
            self.is_ambiguous = not _same_answer(self.recordings[0], recording)
        self.recordings.append(recording)
        if is_used:
            return
        self._left[number] = recording
        for place in _places(recording.path, recording.scope):
            self._places.setdefault(place, deque()).append(number)

    def take(self, path: str | None, scope: str | None) -> Recording | None:
        """Consume the occurrence that fits best, or None when all are used up."""
        for place in _places(path, scope):
            numbers = self._places.get(place)
            while numbers:
                found = self._left.pop(numbers.popleft(), None)
                if found is not None:
                    return found
        return self._left.pop(next(iter(self._left))) if self._left else None

    def first_answer(self, path: str | None = None) -> Recording | None:
        """The first answer (of a logical path), consumed or not: what a cache would give."""
        answers = (one for one in self.recordings if one.error is None)
        return next((one for one in answers if path is None or one.path == path), None)

    def changes_thread(self) -> bool:
        """Whether the calling thread is another one than that of the first take."""
        here = threading.get_ident()
        if self._thread is None:
            self._thread = here
        return self._thread != here

    @property
    def left(self) -> Iterable[Recording]:
        """The occurrences that nobody has taken yet."""
        return self._left.values()


def _places(path: str | None, scope: str | None) -> Iterable[tuple[str, str]]:
    """Where a call came from, the most exact first."""
    if path is not None:
        yield "path", path
    if scope is not None:
        yield "scope", scope


def _same_answer(one: Recording, other: Recording) -> bool:
    if one.response is None or other.response is None:
        return one.response is other.response and one.error == other.error
    return one.error == other.error and one.response.outputs == other.response.outputs


class Recordings:
    """A set of recordings to be served.

    Args:
        recordings: The recordings, in the order in which they were made.
        rollouts: How rollout ids are compared.
        order: Whether requests may come in another order than they were recorded in.
        normalisers: What makes texts equal before keys are computed, applied to stored and live requests alike.
    """

    def __init__(
        self,
        recordings: Iterable[Recording] = (),
        *,
        rollouts: Rollouts = "exact",
        order: Order = "any",
        normalisers: Sequence[Normaliser] = (),
    ) -> None:
        self.normalisers: Final = tuple(normalisers)
        self.warns_of: Bucket | None = None
        """The first bucket whose answers could not be told apart."""
        self._rollouts = rollouts
        self._is_strict = order == "strict"
        self._lock = threading.RLock()
        self._buckets: dict[tuple[str, Any], Bucket] = {}
        self._memo: dict[tuple[str, Any], Recording] = {}
        self._ordinals: dict[str, Ordinals] = {}
        self._sequence: list[tuple[tuple[str, Any], Recording]] = []
        self._position = 0
        self._all: list[Recording] = []
        for recording in recordings:
            self.add(recording)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def all(self) -> Sequence[Recording]:
        """Every recording, served or not."""
        return tuple(self._all)

    @property
    def unused(self) -> list[Recording]:
        """The recordings that no call has asked for yet."""
        with self._lock:
            memoised = {id(recording) for recording in self._memo.values()}
            return [
                recording
                for bucket in self._buckets.values()
                for recording in bucket.left
                if id(recording) not in memoised
            ]

    def key_of(self, request: LMRequest, known: str | None = None) -> str:
        """The key by which a live request is looked up; `known` is the one somebody has computed already."""
        if known is not None and not self.normalisers:
            return known
        return Recording(request=request).key(self.normalisers)

    def add(self, recording: Recording, *, is_used: bool = False) -> None:
        """Append a recording, to be served from now on; a used one only to calls that a cache may answer."""
        key = recording.key_when_asked(self.normalisers)
        with self._lock:
            name = self._asked_rollout if is_used else self._recorded_rollout
            slot = key, name(key, recording.rollout_id, recording.path)
            self._buckets.setdefault(slot, Bucket()).add(recording, is_used=is_used)
            self._all.append(recording)
            if self._is_strict:
                self._sequence.append((slot, recording))

    def take(
        self, key: str, rollout: Any, *, path: str | None = None, scope: str | None = None, may_repeat: bool = False
    ) -> Recording | None:
        """The recording that answers a request, or None.

        Args:
            key: The request's key, from `key_of`.
            rollout: Its rollout id.
            path: Logical path of the task that asks.
            scope: Module path of the caller.
            may_repeat: Whether a cache may answer: the same occurrence is then given however often it is asked for.
        """
        asked = key, _comparable(rollout)
        with self._lock:
            if may_repeat and (found := self._remembered(asked, path)) is not None:
                return found
            slot = key, self._asked_rollout(key, rollout, path)
            bucket = self._buckets.get(slot)
            if bucket is None or (self._is_strict and not self._is_next(slot)):
                return None
            found = bucket.take(path, scope)
            if found is not None:
                self._position += 1
            if may_repeat:
                found = found or bucket.first_answer()
                if found is not None and found.error is None:  # as a cache would: errors are asked for again
                    self._memo[asked] = found
            if bucket.is_ambiguous and path is None and bucket.changes_thread() and self.warns_of is None:
                self.warns_of = bucket
            return found

    def is_told_apart(self, recording: Recording) -> bool:
        """Whether the task of a recording will find its answer: it has one of its own, or all of its bucket are equal."""
        key = recording.key_when_asked(self.normalisers)
        with self._lock:
            bucket = self._buckets.get((key, self._asked_rollout(key, recording.rollout_id, recording.path)))
            has_path = bucket is not None and bucket.first_answer(recording.path) is not None
            return bucket is None or not bucket.is_ambiguous or has_path

    def expected(self) -> Recording | None:
        """With ``order="strict"``: the recording that has to come next."""
        with self._lock:
            return self._sequence[self._position][1] if self._position < len(self._sequence) else None

    def _is_next(self, slot: tuple[str, Any]) -> bool:
        return self._position < len(self._sequence) and self._sequence[self._position][0] == slot

    def _remembered(self, asked: tuple[str, Any], path: str | None) -> Recording | None:
        """What a cache would answer: the occurrence of the very task, else the one given before."""
        before = self._memo.get(asked)
        if before is None or path is None or before.path == path:
            return before
        bucket = self._buckets[asked[0], self._asked_rollout(*asked, path)]
        return bucket.first_answer(path) or (bucket.first_answer() if bucket.is_ambiguous else None) or before

    def _recorded_rollout(self, key: str, rollout: Any, path: str | None) -> Any:
        """What stands for a recording's rollout id in a bucket's name. None is no rollout and never stands for one."""
        if rollout is not None and self._rollouts == "ordinal":
            return self._ordinals_of(key).recorded(str(rollout), path)
        return self._plain(rollout)

    def _asked_rollout(self, key: str, rollout: Any, path: str | None) -> Any:
        """The same for a live request, and for what a live one has just brought."""
        if rollout is not None and self._rollouts == "ordinal":
            return self._ordinals_of(key).asked(str(rollout), path)
        return self._plain(rollout)

    def _ordinals_of(self, key: str) -> Ordinals:
        return self._ordinals.setdefault(key, Ordinals())

    def _plain(self, rollout: Any) -> Any:
        return ANY_ROLLOUT if rollout is not None and self._rollouts == "ignore" else _comparable(rollout)


def _comparable(rollout: Any) -> Any:
    """Ids are compared as texts: a store keeps them as such."""
    return None if rollout is None else str(rollout)
