"""Make few large segments of many small ones.

Small files cost queries eight to twenty times their time. A day that is over is merged whenever it has two small files;
the current day only when many have come together, so that its rows are not written again and again. The files are put
one behind the other in the order of their oldest rows: sorting large texts again would need memory without a bound.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from lmtrace_exporters._batch import Group
from lmtrace_exporters._catalog import Segment, add_segments, change, load
from lmtrace_exporters._layout import Layout
from lmtrace_exporters._parquet import Plan, new_path, now_us, write_segment
from lmtrace_exporters._rowsql import parquet_sql
from lmtrace_exporters._tidy import WAITING

if TYPE_CHECKING:
    import duckdb

SMALL_BYTES: Final = 64 << 20
LARGE_BYTES: Final = 256 << 20
_ENOUGH_TODAY: Final = 8
_ENOUGH_LATER: Final = 2


def merge_small(connection: duckdb.DuckDBPyConnection, layout: Layout, step: Callable[[str], None]) -> int:
    """Merge what is worth it and return how many files were replaced.

    Raises:
        StoreError: the merged file does not hold the rows of the small ones.
        OSError: the store cannot be written.
    """
    replaced = 0
    for small in _mergeable(load(layout).segments):
        merged = _write(connection, layout, small)
        step("merge-written")
        with change(layout) as db:
            add_segments(db, [merged])
            add_segments(db, [replace(segment, dropped_us=now_us()) for segment in small])
        step("merge-committed")
        replaced += len(small)
    return replaced


def _mergeable(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    days: defaultdict[tuple[str, str], list[Segment]] = defaultdict(list)
    for segment in segments:
        if segment.bytes < SMALL_BYTES:
            days[segment.kind, segment.date].append(segment)
    today = datetime.now(UTC).date().isoformat()
    for (_, day), small in days.items():
        enough = _ENOUGH_TODAY if day >= today else _ENOUGH_LATER
        yield from (group for group in _portions(small) if len(group) >= enough)


def _portions(segments: list[Segment]) -> Iterator[list[Segment]]:
    portion: list[Segment] = []
    for segment in segments:
        if portion and sum(other.bytes for other in portion) + segment.bytes > LARGE_BYTES:
            yield portion
            portion = []
        portion.append(segment)
    yield portion


def _write(connection: duckdb.DuckDBPyConnection, layout: Layout, small: list[Segment]) -> Segment:
    path = new_path(small[0].kind, small[0].date, f".parquet{WAITING}")
    expected = Group(sum(s.rows for s in small), min(s.min_us for s in small), max(s.max_us for s in small))
    origin = {"files": [path], "replaces": [segment.path for segment in small]}
    query = parquet_sql(layout.root / segment.path for segment in small)
    return write_segment(connection, layout, Plan(path, query, expected, origin))
