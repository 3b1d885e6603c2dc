"""The in-memory histories: of the process, of each LM, of each calling module.

They are what people look at in a notebook; the durable record is the store. The sizes are limited as in DSPy: the global
history keeps `GLOBAL_SIZE` entries, the others `max_history_size`, and with 0 only the global one is kept. Histories are
plain lists, because people slice, search and clear them; every change of ours happens under one lock.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final, TextIO

from lmtrace import _scope, _settings

Entry = Mapping[str, Any]
"""A `HistoryEntry`, or a dictionary of the shape of DSPy's."""

GLOBAL_SIZE: Final = 10_000

_global: Final[deque[Entry]] = deque(maxlen=GLOBAL_SIZE)
_lock = threading.RLock()


def record(own: list[Entry], entry: Entry) -> None:
    """Add `entry` to the global history, to `own` and to the histories of the modules that made the call."""
    settings = _settings.current()
    if settings.disable_history:
        return
    limit = settings.max_history_size
    modules = _scope.caller_modules() if limit else ()
    with _lock:
        _global.append(entry)
        if limit:
            _append(own, entry, limit)
            for module in modules:
                history = getattr(module, "history", None)
                if isinstance(history, list):
                    _append(history, entry, limit)


def _append(history: list[Entry], entry: Entry, limit: int) -> None:
    excess = len(history) - limit + 1
    if excess > 0:
        del history[:excess]
    history.append(entry)


def latest(n: int) -> list[Entry]:
    """The newest `n` entries of the global history, oldest first."""
    with _lock:
        return list(islice(_global, max(0, len(_global) - max(0, n)), None))


def clear() -> None:
    """Forget the global history; those of LMs and modules are theirs."""
    with _lock:
        _global.clear()


def inspect_history(n: int = 1, file: TextIO | None = None) -> None:
    """Print the newest `n` calls of all LMs in this process.

    Args:
        n: How many.
        file: Where to write, without colours; standard output when not given.
    """
    from lmtrace._render import print_history

    print_history(latest(n), file)


def _renew_lock() -> None:
    """A fork may happen while another thread holds the lock, which nobody would ever release in the child."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
