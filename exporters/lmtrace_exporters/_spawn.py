"""Start a compaction beside the program, when there is enough to do and never at the caller's cost.

The child is a detached, niced process of its own: DuckDB's memory and processor time stay out of the program that
records, and the program's exit does not wait for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from lmtrace_exporters._errors import StoreError
from lmtrace_exporters._layout import Layout

ENOUGH_BYTES: Final = 32 << 20
ENOUGH_FILES: Final = 64
"""Below both, a store is small: queries read its journals fast enough as they are."""


class Compactions:
    """Starts compactions of one store, one at a time."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None

    def start_if_due(self) -> bool:
        """Start a compaction if the journals left behind are worth it; tell whether one was started.

        A failure to start is no error: the next one that is due does the work.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._is_running() or not is_due(self._layout):
                return False
            self._running = _spawn(self._layout)
        except (OSError, RuntimeError, StoreError):
            return False
        finally:
            self._lock.release()
        return True

    def _is_running(self) -> bool:
        return self._running is not None and self._running.poll() is None


def is_due(layout: Layout) -> bool:
    """Tell whether the journals of a store, open ones included, are worth a compaction."""
    sizes = _journal_sizes(layout)
    if not _enough(sizes):
        return False
    from lmtrace_exporters._catalog import load

    consumed = load(layout).consumed  # these only wait for slow readers
    return _enough({name: size for name, size in sizes.items() if name not in consumed})


def _enough(sizes: Mapping[str, int]) -> bool:
    return sum(sizes.values()) >= ENOUGH_BYTES or len(sizes) >= ENOUGH_FILES


def _journal_sizes(layout: Layout) -> dict[str, int]:
    sizes = {}
    with suppress(FileNotFoundError), os.scandir(layout.journal) as entries:
        for entry in entries:
            if entry.name.endswith(".jsonl"):
                with suppress(FileNotFoundError):
                    sizes[entry.name] = entry.stat().st_size
    return sizes


class _Detached(subprocess.Popen[bytes]):
    """A child that is meant to outlive its parent, so Python must not warn about it."""

    def __del__(self) -> None:
        """Do not warn."""


def _spawn(layout: Layout) -> subprocess.Popen[bytes] | None:
    if not sys.executable:  # an embedding program is no Python interpreter
        return None
    return _Detached(
        [sys.executable, "-m", "lmtrace_exporters._compaction", os.fspath(layout.root)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=layout.root,  # the program's own folder may go away, or hold a module that shadows ours
        start_new_session=True,
    )
