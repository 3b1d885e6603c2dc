"""Wrappers for asyncio: each task of the event loop has its own label, whoever creates it and however.

`create_task`, `ensure_future`, `gather`, `TaskGroup` and `run` all end in the loop's own `create_task`, and so do the task
factories of applications, which stay in place.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import builtins
import functools
import sys
from collections.abc import Iterable
from typing import Any, Final

from lmtrace import _paths
from lmtrace.integrations._patching import Function, Switch
from lmtrace.integrations.tasks import _children

_WAIT_FOR: Final = asyncio.wait_for.__code__ if sys.version_info < (3, 12) else None
"""Before Python 3.12 `wait_for` makes a task of what it waits for, and later it does not."""


def wrap_create_task(original: Function, switch: Switch) -> Function:
    """For `BaseEventLoop.create_task`."""

    @functools.wraps(original)
    def create_task(self: Any, coro: Any, **options: Any) -> Any:
        branch = _branch(coro) if switch.is_on else None
        if branch is None:
            return original(self, coro, **options)
        return branch.starting(options.get("context"), original, self, coro, **options)

    return create_task


def _branch(coroutine: Any) -> _paths.Branch | None:
    if _WAIT_FOR is not None and _is_waiting():
        return _paths.here()  # which sleeps meanwhile
    return _children.of_coroutine(coroutine)


def _is_waiting() -> bool:
    """Whether `wait_for` makes this task: it stands three frames above `create_task`."""
    frame = sys._getframe(3).f_back
    frame = None if frame is None else frame.f_back
    return frame is not None and frame.f_code is _WAIT_FOR


def wrap_set(original: Function, switch: Switch) -> Function:
    """For the name ``set`` as `asyncio.tasks` sees it: `as_completed` makes tasks in the order of a set, which is any.

    It gets the order in which they were given. Everything else there gets a set.
    """
    codes = _as_completed_codes()

    def ordered(iterable: Iterable[Any] = ()) -> Any:
        if switch.is_on and sys._getframe(1).f_code in codes:
            return dict.fromkeys(iterable)
        return builtins.set(iterable)

    return ordered


def _as_completed_codes() -> frozenset[Any]:
    """The code that calls ``set`` in `as_completed`, which became a class in Python 3.13."""
    iterator = getattr(asyncio.tasks, "_AsCompletedIterator", None)
    functions = (asyncio.tasks.as_completed, getattr(iterator, "__init__", None))
    return frozenset(code for code in (getattr(each, "__code__", None) for each in functions) if code is not None)
