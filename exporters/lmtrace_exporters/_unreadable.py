"""Find the lines that are intact and yet no rows for DuckDB, so that one of them cannot hold up all others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lmtrace_exporters._batch import Batch
from lmtrace_exporters._rowsql import COLUMNS, journal_sql

if TYPE_CHECKING:
    import duckdb


def unreadable() -> tuple[type[Exception], ...]:
    """Return the errors that say something about a line, and not about memory or the disk."""
    import duckdb

    return duckdb.InvalidInputException, duckdb.ConversionException


def unreadable_lines(connection: duckdb.DuckDBPyConnection, batch: Batch, staging: Path) -> list[bytes]:
    """Return the lines, without newlines, that DuckDB refuses; called only when it refused something.

    Raises:
        OSError: a journal cannot be read, or a copy not be written.
    """
    suspects = [path for path in batch.files if not _reads(connection, [path], batch)]
    draft = staging / "suspect.jsonl"
    return [line for path in suspects for line in _halve(connection, path.read_bytes().splitlines(), batch, draft)]


def _halve(connection: duckdb.DuckDBPyConnection, lines: list[bytes], batch: Batch, draft: Path) -> Iterable[bytes]:
    draft.write_bytes(b"\n".join(lines) + b"\n")
    if _reads(connection, [draft], batch):
        return
    if len(lines) == 1:
        yield lines[0]
        return
    middle = len(lines) // 2
    yield from _halve(connection, lines[:middle], batch, draft)
    yield from _halve(connection, lines[middle:], batch, draft)


def _reads(connection: duckdb.DuckDBPyConnection, files: list[Path], batch: Batch) -> bool:
    try:
        for kind in COLUMNS:
            query = journal_sql(kind, files, longest=batch.longest, unknown=batch.unknown, strict=True)
            connection.execute(f"SELECT max(hash(rows)) FROM ({query}) rows").fetchall()
    except unreadable():
        return False
    return True
