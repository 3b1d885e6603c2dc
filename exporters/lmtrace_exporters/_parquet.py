"""Write one segment: a Parquet file that is complete, checked and on the disk before anybody can see it.

DuckDB 2.0 writes no page checksums and does not check those of others, so each file's SHA-256 is kept in the catalog. The
file itself says which journals or files it was made from, so a lost catalog can be made again.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lmtrace_exporters._batch import Group
from lmtrace_exporters._catalog import Segment
from lmtrace_exporters._errors import StoreError
from lmtrace_exporters._layout import Layout, sync_folder
from lmtrace_exporters._rowsql import quote, quote_name
from lmtrace_exporters._snapshot import file_sha256

if TYPE_CHECKING:
    import duckdb

METADATA_KEY: Final = "lmtrace"
_FEW_VALUES: Final = 64
_FEW_BYTES: Final = 64 << 10
"""A column with more different values, or larger ones, in a row group gets no dictionary: DuckDB would begin one for each text and
give it up late, which costs 2 µs a row and saves no byte."""


def new_path(kind: str, day: str, suffix: str = ".parquet") -> str:
    """Return a fresh path for a segment, relative to the store."""
    folder = "segments" if kind == "call" else "spans"
    return f"{folder}/date={day}/{uuid.uuid4()}{suffix}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A segment to be written."""

    path: str
    """Where, relative to the store."""
    query: str
    """Its rows, in their order."""
    expected: Group
    """What the rows must amount to."""
    origin: Mapping[str, Any]
    """What the file is made from, written into it."""
    level: int = 3
    """How hard zstd tries."""


def write_segment(connection: duckdb.DuckDBPyConnection, layout: Layout, plan: Plan) -> Segment:
    """Write a segment and put it into place; it does not count until the catalog says so.

    Raises:
        StoreError: the rows are not as many as expected.
        OSError: the store cannot be written.
    """
    final = layout.root / plan.path
    draft = final.with_name(final.name + ".tmp")
    for folder in (draft.parent.parent, draft.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    rows = _copy(connection, plan, draft)
    if rows != plan.expected.rows:
        raise StoreError(
            f"DuckDB wrote {rows} rows of {final} where {plan.expected.rows} were read; nothing was changed"
        )
    draft.chmod(0o600)
    _sync(draft)
    digest, status = file_sha256(draft), draft.stat()
    draft.rename(final)
    for folder in (final.parent, final.parent.parent, layout.root):
        sync_folder(folder)
    return describe(plan, status, digest)


def describe(plan: Plan, status: os.stat_result, digest: str) -> Segment:
    """Return the catalog's entry for a file that was written as planned."""
    folder, day, _ = plan.path.split("/")
    return Segment(
        path=plan.path,
        kind="call" if folder == "segments" else "span",
        date=day.removeprefix("date="),
        rows=plan.expected.rows,
        bytes=status.st_size,
        sha256=digest,
        mtime_ns=status.st_mtime_ns,
        min_us=plan.expected.min_us,
        max_us=plan.expected.max_us,
        added_us=now_us(),
    )


def origin_of(connection: duckdb.DuckDBPyConnection, path: Path) -> dict[str, Any] | None:
    """Return what a segment was made from, or None for a file that is damaged or not ours.

    Raises:
        duckdb.IOException: it cannot be read just now, which says nothing about what it holds.
    """
    import duckdb

    try:
        found = connection.execute(
            f"SELECT value FROM parquet_kv_metadata({quote(path)}) WHERE key = {quote(METADATA_KEY)}::BLOB"
        ).fetchone()
        origin = json.loads(found[0]) if found else None
    except duckdb.IOException:
        raise
    except (duckdb.Error, ValueError):
        return None
    return origin if isinstance(origin, dict) else None


def now_us() -> int:
    """Return the wall clock as the catalog keeps it."""
    return time.time_ns() // 1_000


def _copy(connection: duckdb.DuckDBPyConnection, plan: Plan, draft: Path) -> int:
    statement = (
        f"COPY ({_as_text(connection, plan.query)}) TO {quote(draft)} (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL {plan.level}, "
        f"ROW_GROUP_SIZE 4096, ROW_GROUP_SIZE_BYTES '32MB', DICTIONARY_SIZE_LIMIT {_FEW_VALUES}, "
        f"STRING_DICTIONARY_PAGE_SIZE_LIMIT {_FEW_BYTES}, KV_METADATA {{{METADATA_KEY}: {quote(json.dumps(plan.origin))}}})"
    )
    answer = connection.execute(statement).fetchone()
    return int(answer[0]) if answer else 0


def _as_text(connection: duckdb.DuckDBPyConnection, query: str) -> str:
    """Return the query with its JSON columns as text; see `_rowsql`."""
    described = connection.execute(f"DESCRIBE {query}").fetchall()
    names = [quote_name(name) for name, type_, *_ in described if type_ == "JSON"]
    casts = ", ".join(f"{name}::VARCHAR AS {name}" for name in names)
    return f"SELECT * REPLACE ({casts}) FROM ({query})" if names else query


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
