"""Whether something that is started is a task of the program, which takes the next number of the one that starts it.

What a library starts for itself takes none: a pool starts a worker only if none is idle, a client resolves a name only if
no connection is open, a progress bar starts its monitor once a process. Counting those would make the labels depend on
the schedule. Neither does anything that starts while an LM call runs: on replay the provider's library is not there.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, Final

from lmtrace import _paths
from lmtrace._record import active_call

_PLUMBING: Final = frozenset(
    {
        "aiohappyeyeballs", "aiohttp", "asyncio.base_events", "asyncio.base_subprocess", "asyncio.futures",
        "asyncio.proactor_events", "asyncio.selector_events", "asyncio.sslproto", "asyncio.staggered",
        "asyncio.unix_events", "asyncio.windows_events", "httpcore", "httpx", "opentelemetry", "socket", "trio", "urllib3",
    }
)  # fmt: skip
"""Packages and modules that start functions and coroutines for themselves: to connect, or after a fork."""

_WORKERS: Final = _PLUMBING | {
    "anyio", "asyncio", "concurrent.futures", "ddtrace", "grpc", "lmtrace_exporters", "logging", "multiprocessing",
    "posthog", "sentry_sdk", "tqdm",
}  # fmt: skip
"""Packages whose threads serve anybody."""

_ASKED: Final = frozenset({"litellm", "lmtrace"})
"""Packages whose private functions run in threads that serve anybody; the public ones, a program may run in its own."""

_files: Final[dict[str, bool]] = {}
"""By the file a coroutine was written in, whether it is of `_PLUMBING`: its module is dear to ask for."""


@functools.lru_cache(maxsize=1024)
def _belongs(module: str, packages: frozenset[str]) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:count]) in packages for count in range(1, len(parts) + 1))


def of_function(function: Any) -> _paths.Branch | None:
    """The branch in which a function handed to a pool will run; None if labels do not come here."""
    parent = _paths.here()
    return None if parent is None else _next(parent, is_plumbing=_belongs(_module(function), _PLUMBING))


def of_callback(function: Any) -> _paths.Branch | None:
    """The branch of a callback that some thread will run; None for one of a library's, which does as it likes."""
    parent = _paths.here()
    return None if parent is None or _belongs(_module(function), _PLUMBING) else _next(parent, is_plumbing=False)


def of_thread(thread: threading.Thread) -> _paths.Branch | None:
    """The branch of a thread that is about to start; None for one that serves anybody."""
    parent = _paths.here()
    if parent is None:
        return None
    return None if _serves(thread) else _next(parent, is_plumbing=False)


def _serves(thread: threading.Thread) -> bool:
    target = getattr(thread, "_target", None)
    module = type(thread).__module__ if target is None else _module(target)
    if _belongs(module, _ASKED):
        return getattr(target, "__name__", "").startswith(("_", "<"))
    return _belongs(module, _WORKERS)


def of_process(target: Any = None) -> _paths.Branch | None:
    """The branch of a process that is about to start; the worker of a pool serves anybody and takes no number."""
    parent = _paths.here()
    return None if parent is None else _next(parent, is_plumbing=_belongs(_module(target), _WORKERS))


def of_coroutine(coroutine: Any) -> _paths.Branch | None:
    """The branch of the asyncio task that will run a coroutine."""
    parent = _paths.here()
    if parent is None:
        return None
    code: Any = getattr(coroutine, "cr_code", None)
    is_plumbing = False if code is None else _files.get(code.co_filename)
    if is_plumbing is None:
        is_plumbing = _files[code.co_filename] = _belongs(_module_of_coroutine(coroutine), _PLUMBING)
    return _next(parent, is_plumbing=is_plumbing)


def _module_of_coroutine(coroutine: Any) -> str:
    frame = coroutine.cr_frame
    return "" if frame is None else frame.f_globals.get("__name__", "")


def _next(parent: _paths.Branch, *, is_plumbing: bool) -> _paths.Branch:
    return parent.uncounted() if is_plumbing or active_call() is not None else parent.fork()


def _module(function: Any) -> str:
    """Where a function was written; empty for one written in C."""
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__module__", None) or ""
