"""The journals one process has open, and the rule when to begin a new one.

A journal is left behind when it is large, old, torn or deleted below us; it is closed, and so given to compaction,
only after its bytes were synced. The caller holds the lock: nothing here is thread-safe.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence

from lmtrace_exporters._errors import StoreError
from lmtrace_exporters._journal import Journal
from lmtrace_exporters._layout import Layout

_ATTEMPTS = 2
"""A write cut short is repeated once in a fresh file; a second short one means the disk is full."""


class PartialWriteError(Exception):
    """Some lines did not reach a journal; `rest` holds them, the cause says why."""

    def __init__(self, rest: list[bytes]) -> None:
        super().__init__(len(rest))
        self.rest = rest


class Writer:
    """Appends lines to the current journal and rolls it."""

    def __init__(self, layout: Layout, roll_bytes: int, roll_seconds: float) -> None:
        self._layout = layout
        self._roll_bytes = roll_bytes
        self._roll_seconds = roll_seconds
        self.current: Journal | None = None
        self.retired: list[Journal] = []
        self.rows = 0
        self.bytes = 0

    def append(self, lines: Sequence[bytes]) -> None:
        """Write all lines with one system call, or say which are left.

        Raises:
            PartialWriteError: the file system refused some of them, or the store is of a newer version.
        """
        rest = list(lines)
        try:
            for _ in range(_ATTEMPTS):
                rest = self._append_once(rest)
                if not rest:
                    return
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301  it joins those of the system
        except (OSError, StoreError) as error:
            self.retire()
            raise PartialWriteError(rest) from error

    def append_one(self, line: bytes) -> bool:
        """Write one line to the journal that is open; False if that did not happen, whatever the reason."""
        journal = self.current
        if journal is None or self._is_due(journal):
            return False
        try:
            taken = journal.append(line, 1)
        except OSError:
            return False  # `append` will meet it again, and say so
        if taken != len(line):
            journal.keep(0, 0)
            self.retire()
            return False
        self._count(1, taken)
        return True

    def _append_once(self, lines: list[bytes]) -> list[bytes]:
        data = lines[0] if len(lines) == 1 else b"".join(lines)
        journal = self._ready()
        taken = journal.append(data, len(lines))
        if taken == len(data):
            self._count(len(lines), taken)
            return []
        whole, size = _whole_lines(lines, taken)
        journal.keep(size, whole)
        self._count(whole, size)
        self.retire()
        return lines[whole:]

    def _ready(self) -> Journal:
        if self.current is not None and not self._is_due(self.current):
            return self.current
        self.retire()
        self._layout.create()  # each time: somebody may have deleted the directory
        self.current = Journal(self._layout.journal)
        return self.current

    def _count(self, rows: int, size: int) -> None:
        self.rows += rows
        self.bytes += size

    def _is_due(self, journal: Journal) -> bool:
        return journal.size >= self._roll_bytes or time.monotonic() - journal.opened >= self._roll_seconds

    def seconds_left(self) -> float | None:
        """Return how long the current journal may stay open; None when there is none."""
        if self.current is None:
            return None
        return max(0.0, self.current.opened + self._roll_seconds - time.monotonic())

    def retire_due(self) -> None:
        """Leave the current journal if it is old, large or known to be deleted."""
        if self.current is not None and (self._is_due(self.current) or self.current.gone):
            self.retire()

    def retire(self) -> None:
        """Leave the current journal: it is never appended to again, and closed once it is synced."""
        if self.current is not None:
            self.retired.append(self.current)
            self.current = None

    def leave(self, journal: Journal | None) -> None:
        """Leave a journal that the disk refused, if it is still the current one: no later row shall be behind a gap."""
        if journal is not None and self.current is journal:
            self.retire()

    def take_retired(self) -> list[Journal]:
        """Return the journals to sync and close, and forget them."""
        retired, self.retired = self.retired, []
        return retired

    def abandon(self) -> None:
        """Let go of everything after a fork; it belongs to the parent."""
        for journal in (*self.retired, *([self.current] if self.current else [])):
            journal.abandon()
        self.retired, self.current = [], None


def _whole_lines(lines: Sequence[bytes], taken: int) -> tuple[int, int]:
    size = 0
    for count, line in enumerate(lines):
        if size + len(line) > taken:
            return count, size
        size += len(line)
    return len(lines), size
