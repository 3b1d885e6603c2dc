"""Every miss of a session, kept so that it is raised at the end even if something caught the first raise."""

from __future__ import annotations

import threading

from lmtrace_replay._miss import Miss, ReplayMiss


class Ledger:
    """The misses of one session in the order they happened. Safe in threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._misses: list[Miss] = []

    def add(self, miss: Miss) -> ReplayMiss:
        """Keep a miss and return the exception to raise for it."""
        with self._lock:
            self._misses.append(miss)
        return ReplayMiss(miss)

    @property
    def misses(self) -> tuple[Miss, ...]:
        """All misses so far, the first first."""
        with self._lock:
            return tuple(self._misses)

    def __len__(self) -> int:
        return len(self._misses)

    def settle(self) -> None:
        """End the session: nothing without a miss, else one exception that reports them all.

        The report is kept for ``lmtrace why --last`` as well.

        Raises:
            ReplayMiss: a request had no recorded answer.
        """
        misses = self.misses
        if misses:
            from lmtrace_replay._last import remember

            remember(misses)
            raise ReplayMiss(*misses)
