"""Wrappers for threads and pools of threads: what they start runs under its own label.

The workers of a pool have no label; each piece of work brings its own, taken when it is handed in, in the order in which
its task hands it in.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable
from contextvars import Context
from multiprocessing import pool
from typing import Any, TypeVar

from lmtrace import _paths
from lmtrace.integrations._patching import Function, Switch
from lmtrace.integrations.tasks import _children

T = TypeVar("T")


def wrap_submit(original: Function, switch: Switch) -> Function:
    """For `ThreadPoolExecutor.submit`, through which `map`, `run_in_executor` and `to_thread` go too."""

    @functools.wraps(original)
    def submit(self: Any, fn: Function, /, *args: Any, **kwargs: Any) -> Any:
        branch = _children.of_function(fn) if switch.is_on else None
        if branch is None:
            return original(self, fn, *args, **kwargs)
        context = _context_of(fn)
        if context is not None:
            branch.enter(context)
        return original(self, branch.run, fn, *args, **kwargs)

    return submit


def _context_of(function: Any) -> Context | None:
    """The context that a function is bound to run in, as `asyncio.to_thread` does it."""
    bound = getattr(function.func if isinstance(function, functools.partial) else function, "__self__", None)
    return bound if isinstance(bound, Context) else None


def wrap_callback(original: Function, switch: Switch) -> Function:
    """For `concurrent.futures.Future.add_done_callback`: the callback runs in whichever thread is there."""

    @functools.wraps(original)
    def add_done_callback(self: Any, fn: Function) -> Any:
        branch = _children.of_callback(fn) if switch.is_on else None
        return original(self, fn if branch is None else functools.partial(branch.run, fn))

    return add_done_callback


def wrap_start(original: Function, switch: Switch) -> Function:
    """For `Thread.start`, and so for timers and threads of any class."""

    @functools.wraps(original)
    def start(self: threading.Thread) -> None:
        branch = _children.of_thread(self) if switch.is_on and not vars(self).get("_ident") else None
        if branch is None:
            original(self)
            return
        _run_under(self, branch)
        try:
            original(self)
        except BaseException:  # the system has no thread to give
            vars(self).pop("run", None)
            raise

    return start


def _run_under(thread: threading.Thread, branch: _paths.Branch) -> None:
    """Let the thread's own `run`, whatever its class or another library makes of it, run in the branch."""
    own = vars(thread).get("run")

    def run() -> None:
        del vars(thread)["run"]
        if own is not None:
            vars(thread)["run"] = own
        branch.run(thread.run)

    vars(thread)["run"] = run


def wrap_apply(original: Function, switch: Switch) -> Function:
    """For `ThreadPool.apply_async`."""

    @functools.wraps(original)
    def apply_async(
        self: Any, func: Function, args: Iterable[Any] = (), kwds: Any = None, *rest: Any, **options: Any
    ) -> Any:
        branch = _children.of_function(func) if switch.is_on else None
        kwds = {} if kwds is None else kwds
        if branch is None:
            return original(self, func, args, kwds, *rest, **options)
        return original(self, branch.run, (func, *args), kwds, *rest, **options)

    return apply_async


def wrap_map(original: Function, switch: Switch) -> Function:
    """For `ThreadPool._map_async`, through which `map`, `starmap` and their async forms go: a task for each item."""

    @functools.wraps(original)
    def map_async(self: Any, func: Function, iterable: Iterable[Any], mapper: Any, *rest: Any, **options: Any) -> Any:
        if not switch.is_on or _paths.here() is None:
            return original(self, func, iterable, mapper, *rest, **options)
        items = [(_children.of_function(func), item) for item in iterable]
        star = vars(pool)["starmapstar"]  # says that each item is a tuple of arguments
        run = _unpacked if mapper is star else _single
        return original(self, functools.partial(run, func), items, vars(pool)["mapstar"], *rest, **options)

    return map_async


def wrap_imap(original: Function, switch: Switch) -> Function:
    """For `ThreadPool.imap` and `imap_unordered`: one task, and its items, which another thread takes, are its children."""

    @functools.wraps(original)
    def imap(self: Any, func: Function, iterable: Iterable[Any], *rest: Any, **options: Any) -> Any:
        branch = _children.of_function(func) if switch.is_on else None
        if branch is None:
            return original(self, func, iterable, *rest, **options)
        items = ((branch.fork(), item) for item in iterable)
        return original(self, functools.partial(_single, func), items, *rest, **options)

    return imap


def _single(func: Function, pair: tuple[_paths.Branch, Any]) -> Any:
    return pair[0].run(func, pair[1])


def _unpacked(func: Function, pair: tuple[_paths.Branch, Iterable[Any]]) -> Any:
    return pair[0].run(func, *pair[1])
