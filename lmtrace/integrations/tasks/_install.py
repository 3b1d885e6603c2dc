"""Patches the standard library, and trio, when the first session begins, and puts everything back when the last one ends."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Final

from lmtrace import _paths
from lmtrace.integrations._imports import after_import, forget

if TYPE_CHECKING:
    from lmtrace.integrations._patching import Patch

TRIO: Final = "trio._core._run"
"""Where trio's runner is; a program that has not imported it has no tasks of trio's."""

_lock = threading.RLock()
_sessions: Final[list[_paths.Root]] = []
_patches: Final[list[Patch]] = []


def start(path: str = "0", *, processes: bool = False) -> _paths.Root:
    """Begin to label tasks, with the running thread or asyncio task as the root; returns what `stop` needs.

    Args:
        path: The label of the root.
        processes: Whether processes are labelled as well, because there are sessions in them.
    """
    with _lock:
        is_first = not _sessions
        root = _paths.begin(path)
        _sessions.append(root)
        if is_first:
            _install([*_all(), *(_of_processes() if processes else ())])
            _await_trio()
        return root


def stop(root: _paths.Root) -> None:
    """End that session; its labels mean nothing any more. May be called from anywhere, and more than once."""
    with _lock:
        _paths.end(root)
        if root not in _sessions:
            return
        _sessions.remove(root)
        if not _sessions:
            forget(TRIO)
            for patch in reversed(_patches):
                patch.remove()
            _patches.clear()
            processes = sys.modules.get(f"{__package__}._processes")
            if processes is not None:
                processes.follow(on=False)


def _install(patches: list[Patch]) -> None:
    for patch in patches:
        patch.install()
    _patches.extend(patches)


def _await_trio() -> None:
    """Patch trio, now or once the program imports it: anyio does so when it runs something there."""
    if hasattr(sys.modules.get(TRIO), "Runner"):
        _install_trio()
    else:
        after_import(TRIO, _install_trio)


def _install_trio() -> None:
    from lmtrace.integrations._patching import Patch
    from lmtrace.integrations.tasks import _trio

    runner = getattr(sys.modules[TRIO], "Runner", None)
    with _lock:
        if _sessions and runner is not None:
            _install([Patch(runner, "spawn_impl", _trio.wrap_spawn)])


def _of_processes() -> list[Patch]:
    from lmtrace.integrations.tasks import _processes

    _processes.follow(on=True)
    return _processes.patches()


def _all() -> list[Patch]:
    """The places where the standard library starts something."""
    import asyncio.base_events
    import asyncio.tasks
    from concurrent.futures import Future, ThreadPoolExecutor
    from multiprocessing.pool import ThreadPool

    from lmtrace.integrations._patching import Patch
    from lmtrace.integrations.tasks import _loops, _threads

    others = (getattr(sys.modules.get(name), "Loop", None) for name in ("uvloop", "winloop"))  # written in C
    loops = [asyncio.base_events.BaseEventLoop, *(loop for loop in others if loop is not None)]
    return [
        Patch(threading.Thread, "start", _threads.wrap_start),
        Patch(ThreadPoolExecutor, "submit", _threads.wrap_submit),
        Patch(Future, "add_done_callback", _threads.wrap_callback),
        Patch(ThreadPool, "apply_async", _threads.wrap_apply),
        Patch(ThreadPool, "_map_async", _threads.wrap_map),
        Patch(ThreadPool, "imap", _threads.wrap_imap),
        Patch(ThreadPool, "imap_unordered", _threads.wrap_imap),
        *(Patch(loop, "create_task", _loops.wrap_create_task) for loop in loops),
        Patch(asyncio.tasks, "set", _loops.wrap_set, set),
    ]


def _renew_lock() -> None:
    """In a forked child: a thread that is not here may have held it."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
