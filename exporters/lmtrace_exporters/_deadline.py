"""Run something that may hang on a disk, and stop waiting in time.

A system call cannot be interrupted, so it runs in a thread of its own that is simply left behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


def within(timeout_millis: float, action: Callable[[], object]) -> bool:
    """Run `action` and tell whether it returned in time; an exception counts as no."""
    outcome: list[bool] = []
    thread = threading.Thread(target=lambda: outcome.append(_succeeds(action)), name="lmtrace-flush", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no threads any more: the interpreter is shutting down
        return _succeeds(action)
    thread.join(timeout_millis / 1000)
    return outcome == [True]


def _succeeds(action: Callable[[], object]) -> bool:
    try:
        action()
    except Exception:  # the caller asked for a yes or no; the exporter keeps the reason in its statistics
        return False
    return True
