"""Turn closed journals into Parquet, safe at every kill point and beside live writers and readers.

The order is the proof: a segment is complete and synced before it is renamed; it is renamed before the catalog counts it;
one transaction makes it count and its journals not; and only long after that the journals are deleted. Before the
transaction a segment is an orphan that the next run removes, after it the journals are leftovers that it deletes.

``python -m lmtrace_exporters._compaction STORE`` is what the exporter starts: niced, detached, silent.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lmtrace_exporters._batch import Batch, closed_journals, read_batch
from lmtrace_exporters._catalog import add_segments, change, consume_journals, load
from lmtrace_exporters._duck import connect
from lmtrace_exporters._errors import StoreError
from lmtrace_exporters._filters import refresh_filters
from lmtrace_exporters._layout import Layout, write_whole
from lmtrace_exporters._locks import hold_lock
from lmtrace_exporters._merge import merge_small
from lmtrace_exporters._parquet import Plan, new_path, now_us, write_segment
from lmtrace_exporters._quarantine import quarantine_lines
from lmtrace_exporters._rebuild import rebuild_if_needed
from lmtrace_exporters._rowsql import day_sql, journal_sql
from lmtrace_exporters._tidy import end_grace, remove_drafts, remove_leftovers, set_apart_damage
from lmtrace_exporters._unreadable import unreadable, unreadable_lines

if TYPE_CHECKING:
    import duckdb

    from lmtrace_exporters._catalog import Segment

GRACE_SECONDS: Final = 300.0
_BATCH_BYTES: Final = 128 << 20
"""A batch costs about 60 ms whatever its size; memory grows with the row groups, not with the batch."""
MEMORY_MB: Final = 400
_LEVEL: Final = 1
"""An eighth less work than zstd's level 3 for a tenth more bytes, until merging writes the rows once more, at 3."""

Step = Callable[[str], None]


@dataclass(slots=True)
class CompactionReport:
    """What a compaction did."""

    ran: bool = True
    """False when another compaction was running, and so nothing was done."""
    journals: int = 0
    """Journals whose rows are in segments now."""
    rows: int = 0
    """Rows that went into segments."""
    segments: int = 0
    """Segments written."""
    merged: int = 0
    """Small segments that became part of larger ones."""
    quarantined: int = 0
    """Rows that were damaged and are in quarantine."""
    filters: int = 0
    """Segments of which a search now knows what they do not hold."""


def compact(
    path: str | os.PathLike[str],
    *,
    grace_seconds: float = GRACE_SECONDS,
    thorough: bool = False,
    on_step: Step | None = None,
) -> CompactionReport:
    """Move the rows of closed journals into Parquet segments; journals that are written to are left alone.

    Args:
        path: the store directory; a missing one is nothing to do.
        grace_seconds: how long files stay after they were replaced, for readers that listed them before.
        thorough: check the checksum of every segment, not only of those whose size or time changed.
        on_step: called with the name of each step that was completed.

    Raises:
        StoreVersionError: a newer lmtrace wrote the store.
        StoreError: DuckDB or SQLite failed, or DuckDB's reading disagrees with ours; what was not committed was not
            changed.
        OSError: the store cannot be written, or its file system ignores locks.
    """
    layout = Layout(Path(path).absolute())
    layout.check()
    if not layout.journal.exists():
        return CompactionReport()
    with hold_lock(layout.compaction_lock, create=True) as held:
        if not held:
            return CompactionReport(ran=False)
        return _run(_Compaction(layout, on_step or (lambda _: None)), int(grace_seconds * 1_000_000), thorough=thorough)


def _run(compaction: _Compaction, grace_us: int, *, thorough: bool) -> CompactionReport:
    with duckdb_errors("no row is lost"):
        return compaction.run(grace_us, thorough=thorough)


@contextmanager
def duckdb_errors(consolation: str) -> Iterator[None]:
    """Turn errors of the databases into one that says what became of the rows.

    Raises:
        StoreError: DuckDB or SQLite failed.
    """
    import duckdb

    try:
        yield
    except (duckdb.Error, sqlite3.Error) as error:
        raise StoreError(f"the work on the store stopped and can be repeated, {consolation}: {error}") from error


class _Compaction:
    """One run, under the lock."""

    def __init__(self, layout: Layout, step: Step) -> None:
        self._layout = layout
        self._step = step
        self._report = CompactionReport()

    def run(self, grace_us: int, *, thorough: bool) -> CompactionReport:
        with connect(
            threads=1, memory_limit=f"{MEMORY_MB}MB", temp_directory=os.fspath(self._layout.staging)
        ) as connection:
            connection.execute("SET preserve_insertion_order = false")  # less memory; one thread keeps the order anyway
            self._tidy(connection, grace_us, thorough=thorough)
            while self._next_batch(connection):
                self._step("batch-done")
            self._report.merged = merge_small(connection, self._layout, self._step)
            end_grace(self._layout, load(self._layout), grace_us)
        self._step("deleted")
        self._report.filters = refresh_filters(self._layout, self._step)
        return self._report

    def _tidy(self, connection: duckdb.DuckDBPyConnection, grace_us: int, *, thorough: bool) -> None:
        rebuild_if_needed(connection, self._layout)
        catalog = load(self._layout)
        remove_leftovers(connection, self._layout, catalog)
        remove_drafts(self._layout, grace_us)
        self._report.quarantined += set_apart_damage(self._layout, catalog, thorough=thorough)
        end_grace(self._layout, load(self._layout), grace_us)
        self._layout.staging.mkdir(mode=0o700, exist_ok=True)
        self._step("tidied")

    def _next_batch(self, connection: duckdb.DuckDBPyConnection) -> bool:
        consumed = load(self._layout).consumed
        with closed_journals(self._layout, consumed, _BATCH_BYTES) as paths:
            if not paths:
                return False
            batch, segments = self._read_and_write(connection, paths)
            for name, bad in batch.bad.items():
                quarantine_lines(self._layout, name, "lines differ from their checksum or are no rows", bad)
                self._report.quarantined += len(bad)
            self._step("written")
            with change(self._layout) as db:
                add_segments(db, segments)
                consume_journals(db, batch.rows.items(), now_us())
            self._step("committed")
        self._count(batch, segments)
        return True

    def _read_and_write(self, connection: duckdb.DuckDBPyConnection, paths: list[Path]) -> tuple[Batch, list[Segment]]:
        batch = read_batch(paths, self._layout.staging)
        connection.execute(f"SET memory_limit = '{MEMORY_MB + 8 * (batch.longest >> 20)}MB'")
        self._step("read")
        try:
            return batch, self._write(connection, batch)
        except unreadable():
            refused = unreadable_lines(connection, batch, self._layout.staging)
            if not refused:
                raise
            batch = read_batch(paths, self._layout.staging, refused)
            return batch, self._write(connection, batch)

    def _write(self, connection: duckdb.DuckDBPyConnection, batch: Batch) -> list[Segment]:
        paths = {group: new_path(*group) for group in sorted(batch.groups)}
        origin = {"files": list(paths.values()), "journals": batch.rows, "batch": str(uuid.uuid4())}
        segments = []
        for (kind, day), path in paths.items():
            plan = Plan(path, _day_sql(kind, day, batch), batch.groups[kind, day], origin, _LEVEL)
            segments.append(write_segment(connection, self._layout, plan))
            self._step("renamed")
        return segments

    def _count(self, batch: Batch, segments: list[Segment]) -> None:
        self._report.journals += len(batch.rows)
        self._report.rows += sum(batch.rows.values())
        self._report.segments += len(segments)


def _day_sql(kind: str, day: str, batch: Batch) -> str:
    rows = journal_sql(kind, batch.files, longest=batch.longest, unknown=batch.unknown, strict=True)
    if any(other_kind == kind and other != day for other_kind, other in batch.groups):
        rows = f"{rows} AND {day_sql(day)}"
    return rows if batch.groups[kind, day].is_sorted else f"{rows} ORDER BY timestamp"


def main() -> None:
    """Compact the store named on the command line and leave a note if that fails; there is nobody to tell."""
    root = Path(sys.argv[1])
    with suppress(OSError, AttributeError):
        os.nice(10)
    note = root / "compact.error"
    try:
        compact(root)
        note.unlink(missing_ok=True)
    except Exception as error:
        with suppress(OSError):
            write_whole(note, f"{type(error).__name__}: {error}\n".encode())
        sys.exit(1)


if __name__ == "__main__":
    main()
