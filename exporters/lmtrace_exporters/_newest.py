"""The newest calls without a scan of the history.

A journal is in the order in which calls ended, so it is read backwards, and only until nothing before can have begun
later than the rows in hand; files that ended before that are not opened at all. Only segments that can hold newer rows
are given to DuckDB.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmtrace_exporters._catalog import Segment, load
from lmtrace_exporters._layout import Layout
from lmtrace_exporters._line import is_intact
from lmtrace_exporters._rows import from_line, from_table
from lmtrace_exporters._rowsql import COLUMNS, parquet_sql, period_sql
from lmtrace_exporters._snapshot import damage

if TYPE_CHECKING:
    import duckdb

_BLOCK = 256 << 10
_SLACK = timedelta(seconds=1)
"""How far the order of ends may be wrong: threads write at their own pace, file times are coarse, clocks are set."""

Row = dict[str, Any]


class _Top:
    """The newest rows seen so far."""

    def __init__(self, count: int, since: datetime | None, until: datetime | None) -> None:
        self.count, self._since, self._until = count, since, until
        self._heap: list[tuple[datetime, str, int, Row]] = []

    def offer(self, row: Row) -> None:
        """Keep a row if it is among the newest."""
        began: datetime = row["timestamp"]
        if (self._since is not None and began < self._since) or (self._until is not None and began >= self._until):
            return
        item = (began, row["uuid"] or "", len(self._heap), row)
        if len(self._heap) < self.count:
            heapq.heappush(self._heap, item)
        else:
            heapq.heappushpop(self._heap, item)

    def excludes(self, moment: datetime) -> bool:
        """Tell whether nothing that ended before `moment` can be among the newest."""
        return len(self._heap) == self.count and moment + _SLACK < self._heap[0][0]

    def rows(self) -> list[Row]:
        """Return the rows, newest first."""
        return [item[-1] for item in sorted(self._heap, key=lambda item: item[:2], reverse=True)]

    def missing(self) -> int:
        """Return how many rows there is still room for."""
        return self.count - len(self._heap)


def newest(
    layout: Layout,
    count: int,
    since: datetime | None,
    until: datetime | None,
    connect: Callable[[], duckdb.DuckDBPyConnection],
) -> list[Row]:
    """Return the newest calls, newest first.

    Args:
        layout: the store.
        count: how many at most.
        since: leave out rows that began before.
        until: leave out rows that began at or after.
        connect: gives a DuckDB connection; called only when a segment must be read.

    Raises:
        StoreError: the store is newer than this lmtrace, or its description is damaged.
    """
    if count <= 0:
        return []
    layout.check()
    journals = _by_age(layout)
    catalog = load(layout)
    top = _Top(count, since, until)
    for ended, path in journals:
        if top.excludes(ended):
            break
        if path.name not in catalog.consumed:
            _offer_journal(top, path)
    candidates = [segment for segment in catalog.segments if segment.kind == "call" and damage(layout, segment) is None]
    _offer_segments(top, layout, candidates, period_sql({"since": _iso(since), "until": _iso(until)}), connect)
    return top.rows()


def _by_age(layout: Layout) -> list[tuple[datetime, Path]]:
    found = []
    for path in layout.journal.glob("*.jsonl"):
        try:
            found.append((datetime.fromtimestamp(path.stat().st_mtime, UTC), path))
        except FileNotFoundError:
            continue  # compacted a while ago, and so in the catalog read next
    return sorted(found, reverse=True)


def _offer_journal(top: _Top, path: Path) -> None:
    try:
        for line in _lines_backwards(path):
            if not line.startswith(b'{"kind":"call"') or not is_intact(line):
                continue
            row = from_line(line)
            if top.excludes(row["timestamp"] + timedelta(milliseconds=row["duration_ms"] or 0)):
                return
            top.offer(row)
    except FileNotFoundError:
        return


def _lines_backwards(path: Path) -> Iterator[bytes]:
    """Yield the whole lines of a file, last first, without their newlines."""
    with path.open("rb") as file:
        position = file.seek(0, 2)
        rest: bytes | None = None  # the beginning of the line whose end was seen; None while its end is unknown
        while position > 0:
            position -= (size := min(_BLOCK, position))
            file.seek(position)
            first, *lines = file.read(size).split(b"\n")
            if not lines:
                rest = first + rest if rest is not None else None
                continue
            if rest is not None:
                yield lines[-1] + rest
            yield from reversed(lines[:-1])
            rest = first
        if rest is not None:
            yield rest


def _offer_segments(
    top: _Top,
    layout: Layout,
    segments: Iterable[Segment],
    where: str,
    connect: Callable[[], duckdb.DuckDBPyConnection],
) -> None:
    waiting = sorted(segments, key=lambda segment: segment.max_us, reverse=True)
    while waiting:
        first: list[Segment] = []
        needed = top.missing()
        while waiting and (not first or needed > 0):
            first.append(waiting.pop(0))
            needed -= first[-1].rows
        first = [segment for segment in first if not top.excludes(_moment(segment.max_us))]
        if not first:
            return
        files = parquet_sql(layout.root / segment.path for segment in first)
        result = connect().sql(f"SELECT * FROM ({files}) WHERE {where} ORDER BY timestamp DESC LIMIT {top.count}")
        for values in result.fetchall():
            row = from_table("call", dict(zip(result.columns, values, strict=True)))
            top.offer({**dict.fromkeys(COLUMNS["call"]), **row})  # an older file has fewer columns


def _moment(microseconds_: int) -> datetime:
    return datetime.fromtimestamp(microseconds_ / 1_000_000, UTC)


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment is not None else None
