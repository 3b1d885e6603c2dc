"""Tasks of DSPy's thread pools that outlive the session they were started in.

``Evaluate`` and ``Parallel`` do not wait for the rest of their tasks when one of them ends the program, as a miss does. What
those tasks still ask belongs to the session that is over, which refuses it; it must reach neither the provider nor the
next session. The wrappers stay in place until the last of them has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from lmtrace import _serving

_session: ContextVar[_serving.Server | None] = ContextVar("lmtrace.dspy.session", default=None)
_lock: Final = threading.RLock()
_running = 0


def is_busy() -> bool:
    """Whether tasks are running that were started in a session."""
    return _running > 0


def over() -> _serving.Server | None:
    """The session this task was started in, if that is over."""
    session = _session.get()
    return session if session is not None and getattr(session, "is_over", False) else None


@contextmanager
def task_of(session: _serving.Server | None, rearrange: Callable[[], None]) -> Iterator[None]:
    """Around a task that was started in a session, or in none.

    Args:
        session: The session.
        rearrange: Called when wrappers may have to come or go because of a task whose session is over.
    """
    if session is None:
        yield
        return
    token = _session.set(session)
    _count(1)
    if over() is not None:
        rearrange()
    try:
        yield
    finally:
        is_late = over() is not None
        _count(-1)
        _session.reset(token)
        if is_late:
            rearrange()


def _count(change: int) -> None:
    global _running
    with _lock:
        _running += change
