"""Processes: one that a labelled task starts is a task of it, ``0.2``, and what it starts itself counts on from there.

Only a program under ``lmtrace replay`` has sessions in its children, so only there this is installed. A child that is
started anew learns its label from an environment variable, one that is forked has it in memory. Which worker of a pool of
processes gets which work is a matter of scheduling: the worker takes no number, and each piece of work brings its label.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from lmtrace import _paths
from lmtrace.integrations._patching import Function, Patch, Switch
from lmtrace.integrations.tasks import _children

VARIABLE: Final = "LMTRACE_RUN_TASK"
"""Holds the label of a process that was started anew."""

_ENV_POSITION: Final = 9
"""Of ``env`` among the arguments of `Popen` after the first."""


class _Here(threading.local):
    """The label of the process that this thread is just starting."""

    branch: _paths.Branch | None = None


class _State:
    """Whether processes are followed; what is changed for the one that is being started is changed by one thread at a time."""

    def __init__(self) -> None:
        self.follows = False
        self.is_hooked = False
        self.lock = threading.RLock()


_here = _Here()
_state = _State()


def patches() -> list[Patch]:
    """The places where the standard library starts a process, or hands work to one."""
    import multiprocessing.process
    import subprocess
    from concurrent.futures import ProcessPoolExecutor

    return [
        Patch(subprocess.Popen, "__init__", wrap_popen),
        Patch(multiprocessing.process.BaseProcess, "start", wrap_start),
        Patch(ProcessPoolExecutor, "submit", wrap_submit),
    ]


def follow(*, on: bool) -> None:
    """Begin or end to label forked processes."""
    _state.follows = on
    if on and not _state.is_hooked and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
        _state.is_hooked = True


def wrap_popen(original: Function, switch: Switch) -> Function:
    """For `subprocess.Popen`, through which `run`, `check_output` and asyncio's subprocesses go."""

    @functools.wraps(original)
    def __init__(self: Any, args: Any, *rest: Any, **options: Any) -> None:  # noqa: N807
        branch = _children.of_process() if switch.is_on and len(rest) <= _ENV_POSITION else None
        if branch is None:
            original(self, args, *rest, **options)
            return
        given = options.get("env")
        options["env"] = {**(os.environ if given is None else given), VARIABLE: branch.path}
        with _starting(branch):
            original(self, args, *rest, **options)

    return __init__


def wrap_start(original: Function, switch: Switch) -> Function:
    """For `multiprocessing.Process.start`, however it makes the process."""

    @functools.wraps(original)
    def start(self: Any) -> None:
        branch = _children.of_process(vars(self).get("_target")) if switch.is_on else None
        if branch is None:
            original(self)
            return
        with _starting(branch), _environment(branch.path):
            original(self)

    return start


def wrap_submit(original: Function, switch: Switch) -> Function:
    """For `ProcessPoolExecutor.submit`, through which `map` goes too."""

    @functools.wraps(original)
    def submit(self: Any, fn: Function, /, *args: Any, **kwargs: Any) -> Any:
        branch = _children.of_function(fn) if switch.is_on else None
        if branch is None:
            return original(self, fn, *args, **kwargs)
        return original(self, run_labelled, branch.path, fn, *args, **kwargs)

    return submit


def run_labelled(path: str, function: Function, /, *args: Any, **kwargs: Any) -> Any:
    """Call a function in a worker process as the task of that label."""
    here = _paths.here()
    if here is None:
        return function(*args, **kwargs)
    return _paths.Branch(path, here.root).run(function, *args, **kwargs)


@contextmanager
def _starting(branch: _paths.Branch) -> Iterator[None]:
    before, _here.branch = _here.branch, branch
    try:
        yield
    finally:
        _here.branch = before


@contextmanager
def _environment(path: str) -> Iterator[None]:
    """The label in the environment, which a process that is spawned takes from this one."""
    lock = _state.lock
    with lock:
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = path
        try:
            yield
        finally:
            if before is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = before


def _before_fork() -> None:
    if _state.follows and _here.branch is None:
        with suppress(Exception):
            _here.branch = _children.of_process()
            _taken.add(threading.get_ident())


_taken: Final[set[int]] = set()
"""Threads whose label was taken for a bare `os.fork`, and is to be given back."""


def _in_parent() -> None:
    if threading.get_ident() in _taken:
        _taken.discard(threading.get_ident())
        _here.branch = None


def _in_child() -> None:
    _state.lock = threading.RLock()
    branch, _here.branch = _here.branch, None
    _taken.clear()
    if _state.follows and branch is not None:
        _paths.become(branch)
