"""Which payloads the rows of a store mention: what retention must keep, and what a check must find."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lmtrace_exporters._catalog import Segment
from lmtrace_exporters._layout import Layout
from lmtrace_exporters._rowsql import COLUMNS, parquet_sql, quote_name

if TYPE_CHECKING:
    import duckdb

_REFERENCE: Final = re.compile(rb'"\$lmtrace"\s*:\s*"blob"\s*,\s*"sha256"\s*:\s*"([0-9a-f]{64})"')
_IN_SQL: Final = _REFERENCE.pattern.decode()


def mentioned(
    connection: duckdb.DuckDBPyConnection, layout: Layout, segments: Iterable[Segment], journals: Iterable[Path]
) -> set[str]:
    """Return the hashes of all payloads that rows of these files refer to.

    Raises:
        OSError: a journal cannot be read.
    """
    found = set().union(*(_in_journal(path) for path in journals))
    for segment in segments:
        found |= _in_segment(connection, layout, segment)
    return found


def _in_journal(path: Path) -> set[str]:
    try:
        return {match.decode() for match in _REFERENCE.findall(path.read_bytes())}
    except FileNotFoundError:
        return set()  # compacted meanwhile, and so in a segment that is looked at after it


def _in_segment(connection: duckdb.DuckDBPyConnection, layout: Layout, segment: Segment) -> set[str]:
    texts = [quote_name(name) for name, type_ in COLUMNS[segment.kind].items() if type_ in ("JSON", "VARCHAR")]
    source = parquet_sql([layout.root / segment.path])
    there = connection.sql(f"FROM ({source}) LIMIT 0").columns
    each = [
        f"SELECT unnest(regexp_extract_all({name}::VARCHAR, $pattern, 1)) AS digest FROM ({source}) "
        f"WHERE contains({name}::VARCHAR, '$lmtrace')"
        for name in texts
        if name.strip('"') in there
    ]
    union = " UNION ".join(each)
    return {row[0] for row in connection.execute(union, {"pattern": _IN_SQL}).fetchall()}
