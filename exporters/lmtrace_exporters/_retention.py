"""Forget old history: whole days leave the store through the catalog, rows with a kept tag stay in a segment of their own.

A day is never half forgotten. The rows to keep are written, synced and renamed first; one transaction then makes that
file count and those of the day not; deletion comes last, after the grace period that readers have. The transaction of a
killed run is there or it is not, and what it leaves behind is removed by the next compaction.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lmtrace_exporters._batch import Group
from lmtrace_exporters._blobs_in_use import mentioned
from lmtrace_exporters._catalog import Catalog, Segment, add_segments, change, load
from lmtrace_exporters._compaction import GRACE_SECONDS, MEMORY_MB, compact, duckdb_errors
from lmtrace_exporters._duck import connect
from lmtrace_exporters._filters import refresh_filters
from lmtrace_exporters._layout import Layout
from lmtrace_exporters._locks import hold_lock
from lmtrace_exporters._parquet import Plan, new_path, now_us, write_segment
from lmtrace_exporters._rowsql import parquet_sql, quote
from lmtrace_exporters._tidy import WAITING, end_grace, remove_leftovers

if TYPE_CHECKING:
    import duckdb

_BLOB_SECONDS: Final = 3_600.0
"""A payload is written before the row that mentions it; a younger one may be waiting for its row."""
_SWEPT: Final = ".swept"

Step = Callable[[str], None]


@dataclass(slots=True)
class RetentionReport:
    """What was forgotten, or would be."""

    ran: bool = True
    """False when a compaction was running, and so nothing was done."""
    dry_run: bool = False
    """Whether this only says what would be done."""
    days: list[str] = field(default_factory=list)
    """The days that lost rows."""
    rows: int = 0
    """Rows forgotten."""
    kept: int = 0
    """Rows of those days that stay for their tags."""
    bytes: int = 0
    """Size of the files that hold the forgotten rows; they are deleted after the grace period."""
    blobs: int = 0
    """Payloads over 1 MB that no row mentions any more and that were deleted."""
    left_bytes: int = 0
    """Size of the store when the grace period is over, about."""


def collect_garbage(
    path: str | os.PathLike[str],
    *,
    before: datetime | None = None,
    max_bytes: int | None = None,
    keep_tags: Mapping[str, str | None] | None = None,
    dry_run: bool = False,
    grace_seconds: float = GRACE_SECONDS,
    on_step: Step | None = None,
) -> RetentionReport:
    """Forget the rows of whole days: those before a time, and the oldest ones until the store is small enough.

    The current day is never forgotten, nor are rows that are still in a journal somebody writes to.

    Args:
        path: the store directory; a missing one is nothing to do.
        before: forget days (in UTC) that ended before this time.
        max_bytes: forget the oldest days until the store is not larger.
        keep_tags: keep rows with one of these tags; the value None stands for every value.
        dry_run: change nothing and say what would be done.
        grace_seconds: how long files stay after they were replaced, for readers that listed them before.
        on_step: called with the name of each step that was completed.

    Raises:
        StoreVersionError: a newer lmtrace wrote the store.
        StoreError: DuckDB or SQLite failed; what was not committed was not changed.
        OSError: the store cannot be written.
    """
    layout = Layout(Path(path).absolute())
    layout.check()
    report = RetentionReport(dry_run=dry_run)
    if not layout.journal.exists():
        return report
    work = _Retention(layout, report, keep_tags or {}, on_step or (lambda _: None))
    with duckdb_errors("what was to be forgotten is there still"):
        if dry_run:
            work.plan(before, max_bytes)
            return report
        compact(layout.root, grace_seconds=grace_seconds)  # rows can only leave from segments
        with hold_lock(layout.compaction_lock, create=True) as held:
            report.ran = held
            if held:
                work.run(before, max_bytes, int(grace_seconds * 1_000_000))
    return report


class _Retention:
    """One run; `run` needs the lock."""

    def __init__(
        self, layout: Layout, report: RetentionReport, keep_tags: Mapping[str, str | None], step: Step
    ) -> None:
        self._layout, self._report, self._step = layout, report, step
        self._keep = _keep_sql(keep_tags)

    def plan(self, before: datetime | None, max_bytes: int | None) -> None:
        """Fill the report and change nothing."""
        with _connection(self._layout) as connection:
            self._decide(connection, load(self._layout), before, max_bytes)

    def run(self, before: datetime | None, max_bytes: int | None, grace_us: int) -> None:
        """Forget and delete."""
        with _connection(self._layout) as connection:
            remove_leftovers(connection, self._layout, load(self._layout))
            for day in self._decide(connection, load(self._layout), before, max_bytes):
                self._forget(connection, day)
            end_grace(self._layout, load(self._layout), grace_us)
            refresh_filters(self._layout, self._step)
            self._step("deleted")
            self._report.blobs = self._sweep_blobs(connection)
            self._step("swept")

    def _decide(
        self, connection: duckdb.DuckDBPyConnection, catalog: Catalog, before: datetime | None, max_bytes: int | None
    ) -> list[_Day]:
        """Return the days to forget, oldest first, with the files that hold something to forget."""
        by_day: defaultdict[str, list[Segment]] = defaultdict(list)
        for segment in catalog.segments:
            by_day[segment.date].append(segment)
        left, chosen = _live_bytes(self._layout, catalog), []
        for date in sorted(by_day):
            if date >= _today() or not (_is_over(date, before) or (max_bytes is not None and left > max_bytes)):
                continue
            day = self._look_at(connection, date, by_day[date])
            if day.segments:
                chosen.append(day)
                left -= day.freed
        self._report.left_bytes = left
        self._count(chosen)
        return chosen

    def _look_at(self, connection: duckdb.DuckDBPyConnection, date: str, segments: list[Segment]) -> _Day:
        day = _Day(date)
        for segment in segments:
            kept = self._kept(connection, segment)
            if kept.rows < segment.rows:  # else nothing here is to be forgotten: a file of kept rows stays as it is
                day.segments[segment] = kept
        return day

    def _kept(self, connection: duckdb.DuckDBPyConnection, segment: Segment) -> Group:
        if self._keep is None:
            return Group()
        source = parquet_sql([self._layout.root / segment.path])
        found = connection.execute(
            f"SELECT count(*), min(epoch_us(timestamp)), max(epoch_us(timestamp)) FROM ({source}) WHERE {self._keep}"
        ).fetchone()
        return Group(*found) if found and found[0] else Group()

    def _count(self, days: Iterable[_Day]) -> None:
        for day in days:
            self._report.days.append(day.date)
            self._report.rows += sum(segment.rows - kept.rows for segment, kept in day.segments.items())
            self._report.kept += sum(kept.rows for kept in day.segments.values())
            self._report.bytes += sum(segment.bytes for segment in day.segments)

    def _forget(self, connection: duckdb.DuckDBPyConnection, day: _Day) -> None:
        written = [self._write(connection, day, kind) for kind in ("call", "span") if day.kept(kind).rows]
        self._step("written")
        with change(self._layout) as db:
            add_segments(db, written)
            add_segments(db, [replace(segment, dropped_us=now_us()) for segment in day.segments])
        self._step("committed")

    def _write(self, connection: duckdb.DuckDBPyConnection, day: _Day, kind: str) -> Segment:
        sources = [segment for segment in day.segments if segment.kind == kind]
        path = new_path(kind, day.date, f".parquet{WAITING}")
        query = f"SELECT * FROM ({parquet_sql(self._layout.root / s.path for s in sources)}) WHERE {self._keep}"
        origin = {"files": [path], "replaces": [segment.path for segment in sources]}
        return write_segment(connection, self._layout, Plan(path, query, day.kept(kind), origin))

    def _sweep_blobs(self, connection: duckdb.DuckDBPyConnection) -> int:
        for aside in self._layout.blobs.glob(f"*{_SWEPT}"):  # a killed run came this far
            aside.rename(aside.with_suffix(""))
        limit = now_us() / 1_000_000 - _BLOB_SECONDS
        old = [path for path in self._layout.blobs.glob("*") if path.stat().st_mtime < limit]
        if not old:
            return 0
        journals = list(self._layout.journal.glob("*.jsonl"))  # before the catalog, as every reader does
        catalog = load(self._layout)
        used = mentioned(connection, self._layout, (*catalog.segments, *catalog.dropped), journals)
        return sum(_sweep(path, limit) for path in old if path.name not in used)


@dataclass(slots=True)
class _Day:
    """A day to forget."""

    date: str
    segments: dict[Segment, Group] = field(default_factory=dict)
    """The files with something to forget, and what in them is to be kept."""

    @property
    def freed(self) -> int:
        """About how many bytes less there are without the forgotten rows."""
        return sum(
            segment.bytes * (segment.rows - kept.rows) // segment.rows for segment, kept in self.segments.items()
        )

    def kept(self, kind: str) -> Group:
        """What is kept of all files of a kind."""
        parts = [kept for segment, kept in self.segments.items() if segment.kind == kind and kept.rows]
        if not parts:
            return Group()
        return Group(sum(p.rows for p in parts), min(p.min_us for p in parts), max(p.max_us for p in parts))


def _connection(layout: Layout) -> duckdb.DuckDBPyConnection:
    connection = connect(threads=1, memory_limit=f"{MEMORY_MB}MB", temp_directory=os.fspath(layout.staging))
    connection.execute("SET preserve_insertion_order = false")
    return connection


def _keep_sql(tags: Mapping[str, str | None]) -> str | None:
    terms = [
        f"map_contains(tags, {quote(name)})"
        if value is None
        else f"tags[{quote(name)}] IS NOT DISTINCT FROM {quote(value)}"
        for name, value in tags.items()
    ]
    return f"coalesce({' OR '.join(terms)}, false)" if terms else None


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _is_over(date: str, before: datetime | None) -> bool:
    end = datetime.fromisoformat(date).replace(tzinfo=UTC) + timedelta(days=1)
    return before is not None and end <= before


def _live_bytes(layout: Layout, catalog: Catalog) -> int:
    """Return the size of what counts; what only waits for slow readers is as good as gone."""
    files = [path for path in layout.journal.glob("*.jsonl") if path.name not in catalog.consumed]
    total = sum(segment.bytes for segment in catalog.segments)
    folders = (layout.blobs, layout.filters, layout.quarantine)
    rest = (path for folder in folders for path in folder.glob("*"))
    for path in (*files, *rest, *layout.root.glob("*.sqlite*")):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _sweep(path: Path, limit: float) -> bool:
    """Delete a payload unless a writer has just come back to it; tell whether it is gone.

    A writer that has the same payload again makes the file young before it writes its row.
    """
    aside = path.with_name(path.name + _SWEPT)
    try:
        path.rename(aside)
    except FileNotFoundError:
        return False
    if aside.stat().st_mtime >= limit:
        aside.rename(path)
        return False
    aside.unlink()
    return True
