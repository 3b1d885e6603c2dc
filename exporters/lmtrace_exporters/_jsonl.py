"""An exporter for one JSON-lines file that any tool can follow.

Several processes may append to the same file: each record goes out with one system call on a descriptor that always writes
at the end. There is no checksum and no recovery; that is what a store is for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmtrace._exporter import Record
from lmtrace_exporters._append import append
from lmtrace_exporters._deadline import within
from lmtrace_exporters._errors import StoreError
from lmtrace_exporters._forks import after_fork

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class JSONLExporter:
    """Appends records to a JSON-lines file, which is created with the first one."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).absolute()
        self._fd: int | None = None
        self._closed = self._torn = False
        self._written = self._dropped = 0
        self._last_error: str | None = None
        self._reopen()
        after_fork(self, JSONLExporter._reopen)

    def _reopen(self) -> None:
        """What a thread that is not in this child may have held; the descriptor can be shared."""
        self._lock = threading.RLock()
        self._busy = False
        self._deferred: list[bytes] = []

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def export(self, records: Sequence[Record]) -> None:
        """Append the records.

        Raises:
            StoreError: the file cannot be written, or the exporter was shut down.
        """
        if not records:
            return
        lines = [record.line + b"\n" for record in records]
        with self._lock:
            if self._closed:
                raise StoreError(f"{self._path} is closed: nothing can be recorded after shutdown")
            self._deferred += lines
            if not self._busy:  # else a finaliser interrupted this thread's own write, which takes these too
                self._write_deferred()

    def stats(self) -> dict[str, Any]:
        """Return what this process did so far: records written and refused, and the last error."""
        return {"written": self._written, "dropped": self._dropped, "last_error": self._last_error}

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Bring the file to the disk; tell whether that was done in time."""
        return within(timeout_millis, self._sync)

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Flush and close the file."""
        self.force_flush(timeout_millis)
        with self._lock:
            fd, self._fd, self._closed = self._fd, None, True
        if fd is not None:
            os.close(fd)

    def _write_deferred(self) -> None:
        self._busy = True
        try:
            while self._deferred:
                lines, self._deferred = self._deferred, []
                self._write_lines(lines)
        finally:
            self._busy = False

    def _write_lines(self, lines: list[bytes]) -> None:
        try:
            self._write(b"".join(lines))
        except OSError as error:
            self._dropped += len(lines)
            self._last_error = f"cannot write to {self._path}: {error}"
            raise StoreError(self._last_error) from error
        self._written += len(lines)

    def _write(self, data: bytes) -> None:
        if self._fd is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self._path, _FLAGS, 0o600)
        if self._torn:
            data = b"\n" + data
        while data:
            self._torn = True
            data = data[append(self._fd, data) :]
        self._torn = False

    def _sync(self) -> None:
        fd = self._fd
        if fd is not None:
            os.fsync(fd)
