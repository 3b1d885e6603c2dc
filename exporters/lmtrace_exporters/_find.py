"""The newest calls that fit a condition, without looking further back than needed.

Journals come first, then segments from the newest to the oldest, a few at first and twice as many each time: a word that was
said today is found without opening last month. Of a rare text the filters of the segments say where it cannot be; without
them, one that was never said costs one pass over everything. Sorting the whole history for its newest rows would read every
column of every file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lmtrace_exporters._catalog import Segment
from lmtrace_exporters._rowsql import as_json, empty_sql, parquet_sql, some_rows_sql, union_sql

if TYPE_CHECKING:
    import duckdb

_FIRST_ROWS: Final = 100_000
"""Rows to look through before it is known whether there are enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is looked for."""

    columns: str
    """The columns wanted, in SQL."""
    where: str
    """A condition on the columns of `calls`, time limits included; JSON may come as text."""
    params: tuple[Any, ...]
    """Values for the ``?`` in it."""
    count: int
    """How many rows are enough."""
    rows_of: Callable[[Segment], list[tuple[int, int]] | None] = lambda _: None
    """Tells the first and last numbers of the rows in a segment that can fit; None stands for all."""

    def sql(self, source: str) -> str:
        """Return the query for time and uuid of the newest rows of a source."""
        return (
            f"SELECT timestamp, uuid FROM ({source}) WHERE {self.where} "
            f"ORDER BY timestamp DESC, uuid DESC LIMIT {self.count}"
        )

    def rows_sql(self, source: str) -> str:
        """Return the query for the columns of rows that were found."""
        return (
            f"SELECT timestamp, uuid, {self.columns} FROM ({as_json('call', source)}) WHERE timestamp BETWEEN $first AND $last "
            "AND list_contains($moments, timestamp) AND list_contains($uuids, uuid)"
        )


def newest_that_fit(
    connection: duckdb.DuckDBPyConnection, search: Search, journals: str, segments: Iterable[tuple[Segment, Path]]
) -> tuple[list[str], list[str], list[tuple[Any, ...]]]:
    """Return the names of the columns, their types and the rows, newest first.

    Args:
        connection: where to ask.
        search: what is looked for.
        journals: a query for the rows of all journals.
        segments: the segments with calls, and where they are.

    Raises:
        duckdb.Error: the condition is wrong, or a file went away.
    """
    found: list[_Hit] = []
    for source, newest_later in _sources(journals, segments, search):
        hits = connection.sql(search.sql(source), params=search.params).fetchall()
        found = sorted([*found, *(_Hit(moment, uuid, source) for moment, uuid in hits)], reverse=True)[: search.count]
        if len(found) == search.count and (newest_later is None or found[-1].moment > newest_later):
            break
    return _whole(connection, search, found, journals)


class _Hit(NamedTuple):
    """A row that fits: reading the rest of every row on the way there would cost more than the search."""

    moment: datetime
    uuid: str
    source: str


def _whole(
    connection: duckdb.DuckDBPyConnection, search: Search, found: list[_Hit], empty: str
) -> tuple[list[str], list[str], list[tuple[Any, ...]]]:
    columns: list[str] = []
    types: list[str] = []
    rows: list[tuple[Any, ...]] = []
    for source in dict.fromkeys(hit.source for hit in found) or [empty]:
        hits = [hit for hit in found if hit.source == source]
        moments = [hit.moment for hit in hits] or [datetime.fromtimestamp(0, UTC)]
        params = {"first": min(moments), "last": max(moments), "moments": moments, "uuids": [hit.uuid for hit in hits]}
        result = connection.sql(search.rows_sql(source), params=params)
        columns, types = result.columns[2:], [str(type_) for type_ in result.types[2:]]
        wanted = {hit[:2] for hit in hits}
        rows += (row for row in result.fetchall() if row[:2] in wanted)
    return columns, types, [row[2:] for row in sorted(rows, key=lambda row: row[:2], reverse=True)]


def _sources(
    journals: str, segments: Iterable[tuple[Segment, Path]], search: Search
) -> Iterator[tuple[str, datetime | None]]:
    """Yield queries for parts of the history, each with the time of the newest row of all later parts."""
    waiting = sorted(segments, key=lambda pair: pair[0].max_us, reverse=True)
    wanted = _FIRST_ROWS
    yield journals, _newest(waiting)
    while waiting:
        whole: list[Path] = []
        parts: list[str] = []
        rows = 0
        while waiting and rows < wanted:
            segment, path = waiting.pop(0)
            ranges = search.rows_of(segment)
            if ranges is None:
                whole.append(path)
                rows += segment.rows
            elif ranges:
                parts.append(some_rows_sql(path, ranges))
                rows += sum(last - first + 1 for first, last in ranges)
        if whole:
            parts.append(parquet_sql(whole))
        if parts:
            yield union_sql([empty_sql("call", json="VARCHAR"), *parts]), _newest(waiting)
        wanted *= 2


def _newest(waiting: list[tuple[Segment, Path]]) -> datetime | None:
    return datetime.fromtimestamp(waiting[0][0].max_us / 1_000_000, UTC) if waiting else None
