"""Which recorded rollout answers a live one whose id is another each time: ``rollouts="ordinal"``.

A request that is recorded for several rollouts has them in an order, and the n-th live id is the n-th of them. Where tasks
have logical paths the order is each task's own: the n-th id a task asks for is the n-th it asked for when it was recorded,
whichever task comes first this time. Only what no path tells goes by the order in which it comes.
"""

from __future__ import annotations

from typing import Final


class Ordinals:
    """The rollouts of one request; the caller holds a lock."""

    def __init__(self) -> None:
        self._recorded: Final[dict[str, int]] = {}
        self._asked: Final[dict[str, int]] = {}
        self._recorded_by: Final[dict[str, list[int]]] = {}
        self._asked_by: Final[dict[str, list[str]]] = {}

    def recorded(self, rollout: str, path: str | None) -> int:
        """The number of a recorded rollout, which a recording has that a task at `path` made."""
        number = self._recorded.setdefault(rollout, len(self._recorded))
        if path is not None and number not in (numbers := self._recorded_by.setdefault(path, [])):
            numbers.append(number)
        return number

    def asked(self, rollout: str, path: str | None) -> int:
        """The number of a live rollout, the same each time; beyond the recorded ones when there is none left."""
        place = None if path is None else self._place(rollout, path)
        if rollout not in self._asked:
            self._asked[rollout] = self._free(path, place)
        return self._asked[rollout]

    def _place(self, rollout: str, path: str) -> int:
        """How many other ids the task has asked for before this one."""
        ids = self._asked_by.setdefault(path, [])
        if rollout not in ids:
            ids.append(rollout)
        return ids.index(rollout)

    def _free(self, path: str | None, place: int | None) -> int:
        taken = set(self._asked.values())
        own = self._recorded_by.get(path, ()) if path is not None else ()
        if place is not None and place < len(own) and own[place] not in taken:
            return own[place]
        return next(number for number in range(len(taken) + 1) if number not in taken)
