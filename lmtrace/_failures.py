"""What went wrong inside lmtrace: counted, logged at most once a minute for each kind, and never raised into a call.

This is the one place where an error of ours ends. Under our own tests (``LMTRACE_TEST_RAISE=1``) it is raised instead, so
that "telemetry never harms the call" cannot hide a bug.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

logger: Final = logging.getLogger("lmtrace")

LOG_INTERVAL_S: Final = 60.0


class Failures:
    """Counters of internal failures by kind. Safe in threads."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._new_lock()
        self._counts: dict[str, int] = {}
        self._logged: dict[str, float] = {}
        self._last: dict[str, str] = {}

    def _new_lock(self) -> None:
        """Re-entrant, because a finaliser may fail while its own thread is in here; new in a forked child."""
        self._lock = threading.RLock()

    def note(self, kind: str, error: BaseException, hint: str = "") -> None:
        """Count a failure of `kind` and log it if none of its kind was logged in the last minute.

        Only the error's type and, for operating-system errors, its reason are kept: a message may hold content.
        """
        summary = _summary(error)
        now = self._monotonic()
        with self._lock:
            count = self._counts[kind] = self._counts.get(kind, 0) + 1
            self._last[kind] = summary
            due = now - self._logged.get(kind, -LOG_INTERVAL_S) >= LOG_INTERVAL_S
            if due:
                self._logged[kind] = now
        if due:
            with suppress(Exception):  # a handler of the application's may fail
                logger.warning(
                    "lmtrace: %s failed (%s), %d so far; the LM call is not affected.%s", kind, summary, count, hint
                )
        if os.environ.get("LMTRACE_TEST_RAISE") and isinstance(error, Exception):
            raise error

    def counts(self) -> dict[str, int]:
        """How often each kind of failure happened."""
        with self._lock:
            return dict(self._counts)

    def last(self) -> dict[str, str]:
        """The newest failure of each kind, without content."""
        with self._lock:
            return dict(self._last)


def _summary(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    return type(error).__name__


failures: Final = Failures()
"""The counters of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=failures._new_lock)
