"""Records as a file that DuckDB can read, for as long as it takes to bring them elsewhere.

DuckDB's own reader of JSON lines is the fastest way from records to columns, and the same that compaction and readers
use, so a row is the same in every sink. The file lies beside the target, where the content will be anyway.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from lmtrace._exporter import Record
from lmtrace_exporters._rowsql import COLUMNS, IDENTITY, journal_sql, unknown_keys

if TYPE_CHECKING:
    import duckdb

_STALE_SECONDS: Final = 3_600
_MARK: Final = ".lmtrace-spool-"


@dataclass(slots=True)
class Spool:
    """Records in a file."""

    path: Path
    records: dict[str, list[Record]] = field(default_factory=dict)
    """By kind, in their order."""
    refused: int = 0
    """Records that are no rows and not in the file."""
    unknown: dict[str, set[str]] = field(default_factory=dict)
    longest: int = 0

    def sql(self, kind: str) -> str:
        """Return a query for the rows of a kind that fails if one cannot be read."""
        return journal_sql(kind, [self.path], longest=self.longest, unknown=self.unknown[kind], strict=True)


@contextmanager
def spooled(records: Iterable[Record], folder: Path) -> Iterator[Spool]:
    """Keep records in a private file in `folder` for the length of the block.

    Raises:
        OSError: the file cannot be written.
    """
    spool = Spool(folder / f"{_MARK}{os.getpid()}-{os.urandom(4).hex()}.jsonl")
    fd = os.open(spool.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.writelines(_lines(records, spool))
        yield spool
    finally:
        spool.path.unlink(missing_ok=True)


def remove_stale(folder: Path, pattern: str = f"{_MARK}*") -> None:
    """Remove what processes that were killed long ago left behind."""
    for path in folder.glob(pattern):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()


def write_readable(
    connection: duckdb.DuckDBPyConnection,
    records: Sequence[Record],
    folder: Path,
    write: Callable[[duckdb.DuckDBPyConnection, Spool], None],
) -> int:
    """Call `write` with the records that DuckDB can read and return how many it cannot.

    Raises:
        Exception: `write` failed for another reason; OSError: the spool cannot be written.
    """
    try:
        return _write_spooled(connection, records, folder, write)
    except unreadable():
        kept = _readable(connection, records, folder)
        return len(records) - len(kept) + _write_spooled(connection, kept, folder, write)


def _write_spooled(
    connection: duckdb.DuckDBPyConnection,
    records: Sequence[Record],
    folder: Path,
    write: Callable[[duckdb.DuckDBPyConnection, Spool], None],
) -> int:
    with spooled(records, folder) as spool:
        write(connection, spool)
    return spool.refused


def _readable(connection: duckdb.DuckDBPyConnection, records: Sequence[Record], folder: Path) -> list[Record]:
    """Return the records that DuckDB can read, in their order; called only when it refused one."""
    with spooled(records, folder) as spool:
        if _reads(connection, spool):
            return [record for kind in spool.records.values() for record in kind]
    if len(records) == 1:
        return []
    middle = len(records) // 2
    return [*_readable(connection, records[:middle], folder), *_readable(connection, records[middle:], folder)]


def unreadable() -> tuple[type[Exception], ...]:
    """Return DuckDB's errors that say something about a record, and not about memory, a lock or the disk."""
    import duckdb

    return duckdb.InvalidInputException, duckdb.ConversionException


def _reads(connection: duckdb.DuckDBPyConnection, spool: Spool) -> bool:
    try:
        for kind in spool.records:
            connection.execute(f"SELECT max(hash(rows)) FROM ({spool.sql(kind)}) rows").fetchall()
    except unreadable():
        return False
    return True


def _lines(records: Iterable[Record], spool: Spool) -> Iterator[bytes]:
    for record in records:
        if not _note(record, spool):
            spool.refused += 1
            continue
        yield record.line
        yield b"\n"


def _note(record: Record, spool: Spool) -> bool:
    try:
        row = orjson.loads(record.line)
        if row["kind"] not in COLUMNS or not row[IDENTITY[row["kind"]]]:
            return False
        datetime.fromisoformat(row["timestamp"])
    except (ValueError, KeyError, TypeError):
        return False
    kind = row["kind"]
    spool.records.setdefault(kind, []).append(record)
    spool.unknown.setdefault(kind, set()).update(unknown_keys(kind, row))
    spool.longest = max(spool.longest, len(record.line))
    return True
