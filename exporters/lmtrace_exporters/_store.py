"""The exporter that makes a call durable: the caller itself writes the row, with one system call.

A queue would gain nothing, because the row must be serialised before the caller may change its objects, and a write
into the page cache costs as much as queueing; but it survives the death of the process, which no queue does. What is
slow (syncing, rolling by age, starting compaction) is done by one thread that exists while a journal is open.

The rule that must not break: when `export` returns, the rows survive the end of this process, however it ends.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from lmtrace._exporter import Record
from lmtrace._failures import failures
from lmtrace_exporters._append import LARGE
from lmtrace_exporters._background import Background
from lmtrace_exporters._backlog import Backlog
from lmtrace_exporters._blobs import spill
from lmtrace_exporters._deadline import within
from lmtrace_exporters._errors import StoreError
from lmtrace_exporters._forks import after_fork, around_fork
from lmtrace_exporters._layout import Layout
from lmtrace_exporters._line import frame
from lmtrace_exporters._spawn import Compactions
from lmtrace_exporters._troubles import Troubles
from lmtrace_exporters._writer import PartialWriteError, Writer

Durability = Literal["process", "power", "none"]

_SYNC_SECONDS: Final = 0.05
_RETRY_SECONDS: Final = 0.5
_YIELDS: Final = 64
"""Turns of the GIL after which that thread is believed to wait for something else."""


class StoreExporter:
    """Keeps records in a store directory.

    Nothing is touched before the first record. A failing disk makes `export` raise; the records wait in memory
    (32 MB, 10,000 records) and are written with a later record or `force_flush`. What finds no room there is lost
    and counted in `stats`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "process",
        compaction: bool = True,
        roll_bytes: int = 16 << 20,
        roll_seconds: float = 30.0,
    ) -> None:
        """Prepare the exporter for a store.

        Args:
            path: the store directory; created with the first record.
            durability: what a returned `export` promises. ``"process"``: the record survives any death of the process,
                and a power loss after about 50 ms. ``"power"``: it survives a power loss. ``"none"``: as
                ``"process"``, but the operating system chooses when to write to the disk.
            compaction: start a compaction in a separate process when enough journals are closed.
            roll_bytes: a journal of this size is closed and a new one begun.
            roll_seconds: the same for its age.

        Raises:
            ValueError: the durability is unknown.
        """
        if durability not in ("process", "power", "none"):
            raise ValueError(f"durability is 'process', 'power' or 'none', not {durability!r}")
        self._layout = Layout(Path(path).absolute())
        self._durability = durability
        self._limits = (roll_bytes, roll_seconds)
        self._compactions = Compactions(self._layout) if compaction else None
        self._closed = False
        self._begin()
        after_fork(self, StoreExporter._reopen)
        around_fork(self, StoreExporter._before_fork, StoreExporter._forked)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._sync_lock = threading.Lock()
        self._background = Background(self._pause, self._tick)
        self._writer = Writer(self._layout, *self._limits)
        self._backlog = Backlog()
        self._troubles = Troubles(self._layout)
        self._deferred: list[bytes] = []
        self._busy = self._dirty = False
        self._synced = self._unsynced = 0
        self._retry_at = 0.0
        self._last_error: str | None = None

    def _reopen(self) -> None:
        inherited = self._writer
        self._begin()
        inherited.abandon()

    def _before_fork(self) -> None:
        self._background.dismiss()
        self._dirty = False  # the next row is news again, and starts the thread

    def _forked(self) -> None:
        if len(self._backlog):  # not without need: Python 3.13 looks for threads only after this
            with self._lock:
                self._note_work()

    @property
    def path(self) -> Path:
        """The store directory."""
        return self._layout.root

    def stats(self) -> dict[str, Any]:
        """Return what this process did so far: records written, waiting and dropped, bytes, the last error."""
        return {
            "written": self._writer.rows,
            "buffered": len(self._backlog),
            "dropped": self._backlog.dropped,
            "bytes": self._writer.bytes,
            "last_error": self._last_error,
        }

    def export(self, records: Sequence[Record]) -> None:
        """Append the records to this process's journal.

        Raises:
            StoreError: the disk did not take them; they wait in memory or are counted as dropped.
        """
        if os.getpid() != self._pid:  # a fork that Python was not told about
            self._reopen()
        lines = [frame(record.line if len(record.line) <= LARGE else self._spilled(record.line)) for record in records]
        if len(lines) != 1 or not self._append_one(lines[0]):
            self._append(lines)
        if self._durability == "power":
            self._sync_up_to(self._writer.rows)

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Write what waits in memory and bring everything to the disk; tell whether that was done in time."""
        return within(timeout_millis, self._flush)

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Flush and close this process's journal, so that compaction can have it."""
        if self._closed:
            return
        within(timeout_millis, self._close)
        if self._compactions is not None:
            self._compactions.start_if_due()

    # -- appending ---------------------------------------------------------------------------------------------------

    def _spilled(self, line: bytes) -> bytes:
        try:
            self._layout.create()
            return spill(line, self._layout.blobs)
        except (OSError, StoreError, ValueError) as error:
            self._last_error = f"cannot keep a payload in {self._layout.blobs}: {error}"
            failures.note("keeping a payload beside its row", error)
            return line  # the row itself is the next best place for its payload

    def _append_one(self, line: bytes) -> bool:
        """Write one line when nothing is unusual, which every call pays for; False leaves it to `_append`."""
        if not self._lock.acquire(blocking=False):
            self._take_turn()
        try:
            if self._busy:
                return False
            self._busy = True
            try:
                if self._closed or self._backlog.lines:
                    return False
                written = self._writer.append_one(line)
            finally:
                self._busy = False
            if self._deferred:  # a finaliser or a signal handler came in between
                self._append([])
            if not self._dirty:
                self._note_work()
            return written
        finally:
            self._lock.release()

    def _take_turn(self) -> None:
        """Acquire the lock without queueing for it.

        It would be handed to a thread in the queue that has not got the GIL yet, so the next row of the thread that has
        would have to wait for it, and so on: two switches for every row, as long as there are rows.
        """
        for _ in range(_YIELDS):
            time.sleep(0)
            if self._lock.acquire(blocking=False):
                return
        self._lock.acquire()

    def _append(self, lines: list[bytes]) -> None:
        with self._lock:
            if self._closed:
                raise StoreError(f"the store {self.path} is closed: nothing can be recorded after shutdown")
            self._deferred += lines
            if (
                self._busy
            ):  # a finaliser or a signal handler interrupted this thread's own append, which takes these too
                return
            self._busy = True
            try:
                while self._deferred:
                    self._write_deferred()
            finally:
                self._busy = False
            self._note_work()

    def _write_deferred(self) -> None:
        lines, self._deferred = self._deferred, []
        if len(self._backlog):
            if time.monotonic() < self._retry_at:
                self._backlog.put(lines)
                raise StoreError(self._failure_text())
            lines = self._backlog.take() + lines
        try:
            self._writer.append(lines)
        except PartialWriteError as error:
            self._keep(error.rest, error.__cause__)

    def _keep(self, lines: list[bytes], error: BaseException | None) -> None:
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        self._backlog.put(lines)
        self._last_error = str(error) if isinstance(error, StoreError) else f"cannot write to {self.path}: {error}"
        self._note_work()
        if isinstance(error, StoreError):
            raise error
        raise StoreError(self._failure_text()) from error

    def _failure_text(self) -> str:
        waiting, dropped = len(self._backlog), self._backlog.dropped
        return f"{self._last_error} ({waiting} records wait in memory, {dropped} were dropped)"

    def _retry(self) -> None:
        with self._lock:
            if len(self._backlog):
                self._deferred, self._retry_at = self._backlog.take() + self._deferred, 0.0
            self._append([])

    # -- syncing -----------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        try:
            if not self._closed:
                self._retry()
            self._sync()
        finally:
            self._troubles.tell(self._backlog.dropped, now=True)

    def _close(self) -> None:
        try:
            self._retry()
        finally:
            with self._lock:
                self._closed = True
                self._writer.retire()
                self._background.wake()
            try:
                self._sync()
            finally:
                self._troubles.tell(self._backlog.dropped + len(self._backlog), now=True)

    def _sync_up_to(self, rows: int) -> None:
        if self._synced < rows or rows <= self._unsynced:
            with self._sync_lock:  # whoever gets it first syncs for all who wait
                if rows <= self._unsynced:  # the disk says so once; asked again, it has forgotten what it lost
                    raise StoreError(str(self._last_error))
                if self._synced < rows:
                    self._sync_held()

    def _sync(self) -> None:
        with self._sync_lock:
            self._sync_held()

    def _sync_noted(self) -> None:
        """Sync where nobody waits for the answer."""
        try:
            self._sync()
        except StoreError as error:
            failures.note("syncing the store", error.__cause__ or error)

    def _sync_held(self) -> None:
        # No system call while the caller's lock is held: a thread that gave the GIL away there would make callers wait
        # until the CPU-bound threads of the program give it back.
        with self._lock:
            self._writer.retire_due()
            rows, current, retired = self._writer.rows, self._writer.current, self._writer.take_retired()
            self._dirty = False
        refusals = [refusal for journal in retired if (refusal := journal.finish())]
        if current is not None:
            refusals += [refusal for refusal in (current.try_sync(),) if refusal]
        if refusals:
            self._last_error, self._unsynced = f"cannot sync {self.path}: {refusals[0]}", rows
            with self._lock:
                self._writer.leave(current)
            raise StoreError(self._last_error) from refusals[0]
        self._synced = rows

    # -- what the background does, and how long it may sleep -----------------------------------------------------------

    def _note_work(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._background.wake()
        self._background.ensure()

    def _pause(self) -> float | None:
        with self._lock:
            self._background.rest()
            left = self._writer.seconds_left()
            if len(self._backlog) and not self._closed:
                return _RETRY_SECONDS
            if self._writer.retired or (self._dirty and left is not None and self._durability == "process"):
                return _SYNC_SECONDS
            if left is None:
                self._background.end()
            return left

    def _tick(self) -> None:
        with self._lock:
            retry = len(self._backlog) and time.monotonic() >= self._retry_at
            self._writer.retire_due()
            rolled = bool(self._writer.retired)
        if retry and not self._closed:
            self._retry()
        if rolled or self._durability == "process":
            self._sync_noted()
        self._troubles.tell(self._backlog.dropped)
        if rolled and self._compactions is not None:
            self._compactions.start_if_due()
