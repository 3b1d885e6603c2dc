"""An exporter that keeps rows in memory, for tests and notebooks."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from lmtrace._exporter import Record
from lmtrace_exporters._errors import StoreError
from lmtrace_exporters._forks import after_fork


class InMemoryExporter:
    """Keeps every row as a dictionary; nothing survives the process."""

    def __init__(self) -> None:
        self._new_lock()
        self._closed = False
        self.rows: list[dict[str, Any]] = []
        """The rows in the order they came, each with its `kind`."""
        after_fork(self, InMemoryExporter._new_lock)

    def _new_lock(self) -> None:
        self._lock = threading.RLock()  # a finaliser may export while its own thread is in here

    def export(self, records: Sequence[Record]) -> None:
        """Keep the rows of the records.

        Raises:
            StoreError: the exporter was shut down.
        """
        rows = [{"kind": record.kind, **record.row} for record in records]
        with self._lock:
            if self._closed:
                raise StoreError("the exporter is closed: nothing can be recorded after shutdown")
            self.rows += rows

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Return True: rows are where they belong as soon as `export` returns."""
        return True

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Take no more records; the rows stay."""
        with self._lock:
            self._closed = True

    def clear(self) -> None:
        """Forget all rows."""
        with self._lock:
            self.rows.clear()
