"""What the exporters share whose single write is dear: records wait in memory until a thread writes many at once.

A record is written, waiting, or dropped, counted and its exporter told: there is no fourth state. A process that is
killed loses what was waiting, so each exporter says how long that may be; whoever must not lose anything uses a store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from lmtrace._exporter import Record
from lmtrace._failures import logger
from lmtrace_exporters._background import Background
from lmtrace_exporters._deadline import within
from lmtrace_exporters._errors import StoreError
from lmtrace_exporters._forks import after_fork, around_fork

MAX_BYTES: Final = 64 << 20
"""What may wait; a newcomer that finds no room is dropped."""

_BATCH_BYTES: Final = 16 << 20
_RETRY_SECONDS: Final = 1.0
_FORK_WAITS_SECONDS: Final = 2.0


class PartialWriteError(Exception):
    """Only some records were written; the message says why, without content."""

    def __init__(self, reason: str, rest: Sequence[Record] = (), refused: int = 0) -> None:
        super().__init__(reason)
        self.rest = list(rest)
        """Records to try again."""
        self.refused = refused
        """How many are neither written nor in `rest`, because they can never be written."""


class Batching:
    """An exporter that hands its records to `_write` in batches; see its subclasses."""

    def __init__(self, target: str, seconds: float, batch_bytes: int = _BATCH_BYTES) -> None:
        self._target = target
        self._seconds = seconds
        self._batch_bytes = batch_bytes
        self._closed = self._prepared = False
        self._begin()
        after_fork(self, lambda exporter: exporter._begin())
        around_fork(self, Batching._before_fork, Batching._forked)

    def _begin(self) -> None:
        """What waits at a fork is the parent's."""
        self._lock = threading.RLock()  # a finaliser may export while its own thread is in here
        self._writing = threading.Lock()
        self._background = Background(self._pause, self._tick)
        self._waiting: list[Record] = []
        self._size = self._in_hand = self._written = self._dropped = 0
        self._oldest = self._retry_at = 0.0
        self._woken = self._paused = False
        self._last_error: str | None = None
        self._failing = False
        """Whether something waits because the last write failed."""

    def _before_fork(self) -> None:
        """Have the thread go, and no write be under way: what it uses (DuckDB, a connection) would be broken in the child."""
        self._background.dismiss()
        self._paused = self._writing.acquire(timeout=_FORK_WAITS_SECONDS)

    def _forked(self) -> None:
        if self._paused:
            self._writing.release()
        if self._waiting:  # not without need: Python 3.13 looks for threads only after this
            with self._lock:
                self._background.ensure()

    def _prepare(self) -> None:
        """Make sure, before the first record is taken for granted, that the target can exist.

        Raises:
            OSError: it cannot.
        """

    def _write(self, records: list[Record]) -> None:
        """Bring records to the target, all or none.

        Raises:
            PartialWriteError: some were written.
            Exception: none was.
        """
        raise NotImplementedError

    def _close(self) -> None:
        """Let go of what was opened for the target."""

    def export(self, records: Sequence[Record]) -> None:
        """Take the records over; they are written soon, or by `force_flush`.

        Raises:
            StoreError: the last write failed (the records wait and are written later), there is no room for more records
                to wait (what was dropped is counted in `stats`), or the exporter was shut down.
        """
        if not records:
            return
        with self._lock:
            if self._closed:
                raise StoreError(f"{self._target} is closed: nothing can be recorded after shutdown")
            dropped = self._keep(records)
            self._try_preparing()
            self._background.ensure()
            if self._size >= self._batch_bytes and not self._woken and not self._failing:
                self._woken = True
                self._background.wake()
            if dropped or self._failing:
                raise StoreError(self._state())

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Write what waits; tell whether that was done in time."""
        return within(timeout_millis, self._drain)

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Write what waits and take nothing more; what cannot be written is counted and logged."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if not self.force_flush(timeout_millis):
            logger.warning("lmtrace: %s", self._state())
        self._close()

    def stats(self) -> dict[str, Any]:
        """Return what this process did so far: records written, waiting and dropped, the last error."""
        return {
            "written": self._written,
            "buffered": self._buffered,
            "dropped": self._dropped,
            "last_error": self._last_error,
        }

    # -- keeping -----------------------------------------------------------------------------------------------------

    def _keep(self, records: Iterable[Record]) -> int:
        before = self._dropped
        for record in records:
            if self._waiting and self._size + len(record.line) > MAX_BYTES:
                self._dropped += 1
                continue
            if not self._waiting:
                self._oldest = time.monotonic()
            self._waiting.append(record)
            self._size += len(record.line)
        return self._dropped - before

    def _try_preparing(self) -> None:
        if self._prepared:
            return
        try:
            self._prepare()
            self._prepared = True
        except OSError as error:
            self._last_error, self._failing = str(error), True

    def _state(self) -> str:
        reason = self._last_error if self._failing else "too many records wait"
        return (
            f"cannot write to {self._target}: {reason} "
            f"({self._buffered} records wait in memory, {self._dropped} were dropped)"
        )

    @property
    def _buffered(self) -> int:
        return len(self._waiting) + self._in_hand

    # -- writing -----------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        with self._writing:
            batch = self._take()
            if not batch:
                return
            self._in_hand = len(batch)
            try:
                self._write(batch)
            except PartialWriteError as error:
                self._return(error.rest, error)
                self._note(batch, error.rest, error.refused)
                raise
            except Exception as error:
                self._return(batch, error)
                raise
            finally:
                self._in_hand = 0
            self._note(batch)
            self._failing = False

    def _take(self) -> list[Record]:
        with self._lock:
            batch, self._waiting, self._size, self._woken = self._waiting, [], 0, False
        return batch

    def _note(self, batch: Sequence[Record], rest: Sequence[Record] = (), refused: int = 0) -> None:
        with self._lock:
            self._written += len(batch) - len(rest) - refused
            self._dropped += refused
        self._report(refused)

    def _report(self, lost: int) -> None:
        """Say that records are lost whose `export` returned."""
        if lost:
            logger.warning("lmtrace: %d records for %s are lost: %s", lost, self._target, self._last_error)

    def _return(self, rest: list[Record], error: BaseException) -> None:
        """Put back what was taken, before what came meanwhile."""
        self._last_error = str(error).strip().partition("\n")[0] or type(error).__name__
        self._retry_at = time.monotonic() + _RETRY_SECONDS
        with self._lock:
            self._failing = bool(rest)
            newer = self._take()
            dropped = self._keep([*rest, *newer])
            if self._closed:  # there is no later time at which they could be written
                left = len(self._take())
                self._dropped += left
                dropped += left
        self._report(dropped)

    def _pause(self) -> float | None:
        with self._lock:
            self._background.rest()
            if not self._waiting:
                self._background.end()
                return None
            return max(0.0, self._due() - time.monotonic())

    def _due(self) -> float:
        if self._failing:
            return self._retry_at
        return 0.0 if self._size >= self._batch_bytes else self._oldest + self._seconds

    def _tick(self) -> None:
        if self._waiting and time.monotonic() >= self._due():
            self._drain()
