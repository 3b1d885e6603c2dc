"""Which task asks: a label that does not depend on how the tasks of a program happen to be scheduled.

A label is built from fork ordinals: the parent's, and "the n-th task it started" (``0.3.12``). Each task counts its own
children, in the order in which it starts them, which its own code decides; no two tasks share a counter. So the same
program gives its tasks the same labels in every run, and a recording made by one task is found again by that very task.

Labels exist between `begin` and `end` only, which a recording or replaying session calls; `lmtrace.integrations.tasks` makes
them follow threads, executors and tasks of asyncio and trio. A label belongs to a thread or such a task, not to a context: contexts
are copied, and two tasks would count in one place. The context says one thing only: whose copy it is. Code that runs in a
copy, outside of the task itself (a callback of the event loop, a worker thread of anyio), is counted beside that task, as
``0.3+``.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, ContextVar
from typing import Any, Final, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from lmtrace._failures import logger
from lmtrace._sleep import running_trio

P = ParamSpec("P")
R = TypeVar("R")

_around: ContextVar[Branch | None] = ContextVar("lmtrace.path", default=None)
"""The task whose context this is, or is a copy of."""

_branches: WeakKeyDictionary[Any, Branch] = WeakKeyDictionary()
"""The label of each thread and task that has one."""

_roots: list[Root] = []
"""Where the sessions that are open now began."""

_lock = threading.RLock()


class _Starting(threading.local):
    """The labels of the asyncio tasks this thread is just making: an eager one runs before anybody holds it."""

    def __init__(self) -> None:
        self.branches: list[Branch] = []


_starting = _Starting()


class Branch:
    """The sequence of steps of one task."""

    __slots__ = ("__weakref__", "_beside", "_children", "_is_counted", "path", "root")

    def __init__(self, path: str, root: Root | None = None, *, is_counted: bool = True) -> None:
        self.path: Final = path
        self.root: Final = self if isinstance(self, Root) else root
        """Where the session of this branch began."""
        self._children = itertools.count(1)
        self._beside: Branch | None = None
        self._is_counted = is_counted

    @property
    def is_alive(self) -> bool:
        """Whether the session of this branch is open."""
        return self.root is not None and self.root.is_open

    def fork(self) -> Branch:
        """The branch of the next task this one starts."""
        return Branch(f"{self.path}.{next(self._children)}", self.root) if self._is_counted else self

    def beside(self) -> Branch:
        """The branch of what runs in a copy of this task's context without being the task."""
        if not self._is_counted:
            return self
        with _lock:
            if self._beside is None:
                self._beside = Branch(f"{self.path}+", self.root)
            return self._beside

    def uncounted(self) -> Branch:
        """The branch of what a library starts for its own purposes: labelled as this one, and it counts nothing."""
        return Branch(self.path, self.root, is_counted=False) if self._is_counted else self

    def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `function` as the task of this branch."""
        owner = _owner()
        before = _branches.get(owner)
        assign(owner, self)
        token = _around.set(self)
        try:
            return function(*args, **kwargs)
        finally:
            _around.reset(token)
            assign(owner, before)
            del (
                self,
                owner,
                before,
                args,
                kwargs,
            )  # a future keeps its error, the error its frames, and they the caller's

    def enter(self, context: Context) -> None:
        """Say that `context`, in which this task is about to run, is its own."""
        with suppress(RuntimeError):  # somebody runs in it now: then it is his
            context.run(_around.set, self)

    def starting(self, context: Context | None, make: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Make an asyncio task for this branch: it runs in `context` or a copy of this one; an eager one begins to run."""
        if context is not None:
            self.enter(context)
        token = _around.set(self)
        _starting.branches.append(self)
        try:
            task = make(*args, **kwargs)
        finally:
            _starting.branches.pop()
            _around.reset(token)
        assign(task, self)
        return task


class Root(Branch):
    """The branch in which a session began, labelled ``0`` but in processes that a task of another session has started."""

    __slots__ = ("before", "is_open", "owner", "told")

    def __init__(self, owner: Any, path: str = "0") -> None:
        super().__init__(path)
        self.is_open = True
        self.owner: Final = owner
        self.before: Final = None if owner is None else _branches.get(owner)
        """The owner's branch in the session around this one."""
        self.told = False
        """Whether it was said that a call could not be followed."""

    def outer(self) -> Branch | None:
        """The owner's branch in the innermost session around this one that is still open."""
        before = self.before
        while isinstance(before, Root) and not before.is_open:
            before = before.before
        return before if before is not None and before.is_alive else None


def begin(path: str = "0") -> Root:
    """Open a session: the running thread or asyncio task is its root. Labels of sessions around it rest meanwhile."""
    root = Root(_owner(), path)
    assign(root.owner, root)
    _around.set(root)
    with _lock:
        _roots.append(root)
    return root


def become(branch: Branch) -> None:
    """Say that the running code, which was forked off another process, is the task of this branch from now on."""
    assign(_owner(), branch)
    _around.set(branch)


def end(root: Root) -> None:
    """Close a session, from wherever; its labels mean nothing from now on. A second time changes nothing."""
    with _lock:
        if root.is_open:
            root.is_open = False
            _roots.remove(root)
    if root.owner is not None and _branches.get(root.owner) is root:
        assign(root.owner, root.outer())
    around = _around.get()
    if around is not None and not around.is_alive:
        _around.set(root.outer())


def current() -> str | None:
    """The label of the task that asks: None while no session is open, and where labels could not follow."""
    if not _roots:
        return None
    branch = here()
    if branch is None:
        _tell()
        return None
    return branch.path


def here() -> Branch | None:
    """The branch of the running code."""
    if not _roots:
        return None
    owner = _owner()
    if owner is not None:
        branch = _branches.get(owner)
        if branch is not None and branch.is_alive:
            return branch
        if _starting.branches and not isinstance(owner, threading.Thread):
            assign(owner, _starting.branches[-1])
            return _starting.branches[-1]
    around = _around.get()
    if around is None or not around.is_alive:  # an older task, in a loop that the thread of a session runs again
        around = None if isinstance(owner, threading.Thread) else _branches.get(threading.current_thread())
    return around.beside() if around is not None and around.is_alive else None


def assign(owner: Any, branch: Branch | None) -> None:
    """Say that `owner`, a thread or an asyncio task, is the task of this branch, or of none."""
    try:
        if branch is not None:
            _branches[owner] = branch
        else:
            _branches.pop(owner, None)
    except TypeError:  # None, or a task of somebody's own making that cannot be weakly referred to
        return


def is_open() -> bool:
    """Whether any session is open."""
    return bool(_roots)


def _owner() -> Any:
    """The task of asyncio or trio that is running, None in a callback of asyncio's event loop, or else the thread."""
    trio = running_trio()
    if trio is not None:  # perhaps as a guest in an event loop of asyncio's
        return trio.lowlevel.current_task()
    asyncio = sys.modules.get("asyncio")  # a program that has not imported it has no tasks
    loop = None if asyncio is None else asyncio._get_running_loop()
    return threading.current_thread() if asyncio is None or loop is None else asyncio.current_task(loop)


def _tell() -> None:
    """Once a session: a call came from where labels cannot be carried."""
    with _lock:
        open_roots = _roots[-1:]
        due = bool(open_roots) and not open_roots[0].told
        if due:
            open_roots[0].told = True
    if due:
        logger.warning(
            "lmtrace: a call came from thread %r, which was started before the recording or replay began, or by a library "
            "that hides what it starts. Equal requests from there are told apart by scope and order only.",
            threading.current_thread().name,
        )


def _renew_lock() -> None:
    """In a forked child: a thread that is not here may have held it."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
