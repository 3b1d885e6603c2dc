"""The first place the cache looks: the answers this process saw last."""

from __future__ import annotations

import threading
from collections import OrderedDict

from lmtrace_replay._cached import CachedAnswer


class MemoryTier:
    """The most recently used answers, as many as fit. Safe in threads.

    Args:
        max_entries: Most answers.
        max_bytes: Most bytes of their JSON forms together; a single one may have a sixteenth of it.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.bytes = 0
        self.hits = self.misses = 0
        """How often an answer was here when it was looked for, and how often not."""
        self._answers: OrderedDict[bytes, CachedAnswer] = OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: bytes) -> CachedAnswer | None:
        """The answer kept under `key`."""
        with self._lock:
            answer = self._answers.get(key)
            if answer is None:
                self.misses += 1
            else:
                self.hits += 1
                self._answers.move_to_end(key)
        return answer

    def put(self, key: bytes, answer: CachedAnswer) -> None:
        """Keep an answer, at the cost of those not asked for the longest; one that is too large is not kept."""
        if answer.size > self.max_bytes // 16 or not self.max_entries:
            return
        with self._lock:
            self._remove(key)
            self._answers[key] = answer
            self.bytes += answer.size
            while self.bytes > self.max_bytes or len(self._answers) > self.max_entries:
                self.bytes -= self._answers.popitem(last=False)[1].size

    def discard(self, key: bytes) -> None:
        """Forget the answer kept under `key`."""
        with self._lock:
            self._remove(key)

    def _remove(self, key: bytes) -> None:
        before = self._answers.pop(key, None)
        if before is not None:
            self.bytes -= before.size

    def in_child(self) -> None:
        """After a fork: a thread that is not here may have held the lock, half-way through a change."""
        self._lock = threading.RLock()
        self.bytes = sum(answer.size for answer in self._answers.values())
