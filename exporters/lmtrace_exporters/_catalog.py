"""The catalog: which Parquet files count, and which journals they already contain.

A segment and the journals it consumed enter in one transaction, so a reader that lists the journals first and the
catalog second sees every row exactly once, at whatever point a compaction is killed. SQLite does not checksum its
pages; every row here carries its own checksum, and `totals` holds one over all of them, so that a row cannot go missing.

A catalog comes into being whole, under another name, before the first segment does: segments without a catalog, or with
an empty one, always mean that it was lost, and nobody takes them for rubbish.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from lmtrace_exporters._layout import Layout, sync_folder

_TABLES: Final = (
    """CREATE TABLE segments (
    path TEXT PRIMARY KEY, kind TEXT NOT NULL, date TEXT NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL, mtime_ns INTEGER NOT NULL, min_us INTEGER NOT NULL, max_us INTEGER NOT NULL,
    added_us INTEGER NOT NULL, dropped_us INTEGER, crc INTEGER NOT NULL
) STRICT""",
    """CREATE TABLE journals (
    name TEXT PRIMARY KEY, rows INTEGER NOT NULL, consumed_us INTEGER NOT NULL, crc INTEGER NOT NULL
) STRICT""",
    "CREATE TABLE totals (id INTEGER PRIMARY KEY, crc INTEGER NOT NULL) STRICT",
)


@dataclass(frozen=True, slots=True)
class Segment:
    """One immutable Parquet file of the store; times are microseconds since 1970."""

    path: str
    kind: str
    date: str
    rows: int
    bytes: int
    sha256: str
    mtime_ns: int
    min_us: int
    max_us: int
    added_us: int
    dropped_us: int | None = None


@dataclass(frozen=True, slots=True)
class Catalog:
    """What the catalog says at one moment."""

    segments: tuple[Segment, ...] = ()
    """The files that count, oldest rows first."""

    dropped: tuple[Segment, ...] = ()
    """Files that were replaced and wait for slow readers before they are deleted."""

    consumed: dict[str, int] = field(default_factory=dict)
    """Journals whose rows are in segments, with the time that became true."""

    problems: tuple[str, ...] = ()
    """What is wrong with the catalog itself."""


def load(layout: Layout) -> Catalog:
    """Read the catalog in one transaction; a lost or damaged one says so in `problems`."""
    if not layout.catalog.exists():
        return Catalog(problems=("the catalog is lost",) if _has_segments(layout) else ())
    try:
        try:
            return _load(layout, "mode=ro")
        except sqlite3.OperationalError:
            if _has_log(layout):
                raise
            return _load(layout, "immutable=1")  # a read-only folder has no place for SQLite's shared memory
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter for a flipped bit in a name
        return Catalog(problems=(f"the catalog is damaged: {error}",))


@contextmanager
def change(layout: Layout) -> Iterator[sqlite3.Connection]:
    """Open the catalog for one transaction, durable when the block ends; an exception undoes it.

    Raises:
        sqlite3.Error: the catalog cannot be written.
    """
    if not layout.catalog.exists():
        create(layout)
    with closing(
        sqlite3.connect(f"{layout.catalog.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=30)
    ) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        with _transaction(db):
            yield db


def create(
    layout: Layout, segments: Iterable[Segment] = (), journals: Iterable[tuple[str, int]] = (), now_us: int = 0
) -> None:
    """Put a new catalog in the place of one that was lost, with all that counts from the beginning.

    Raises:
        sqlite3.Error: the catalog cannot be written.
        OSError: the same.
    """
    draft = layout.catalog.with_name(f"{layout.catalog.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(draft, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode=MEMORY")
            db.execute("PRAGMA synchronous=FULL")
            with _transaction(db):
                for table in _TABLES:
                    db.execute(table)
                add_segments(db, segments)
                consume_journals(db, journals, now_us)
        for suffix in ("-wal", "-shm"):  # SQLite would take a lost catalog's log for the new one's
            layout.catalog.with_name(layout.catalog.name + suffix).unlink(missing_ok=True)
        draft.rename(layout.catalog)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(layout.root)


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("INSERT OR REPLACE INTO totals VALUES (1, ?)", (_total(db),))
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def add_segments(db: sqlite3.Connection, segments: Iterable[Segment]) -> None:
    """Make Parquet files count; a file known already is replaced by its new entry."""
    for segment in segments:
        values = _values(segment)
        db.execute(f"INSERT OR REPLACE INTO segments VALUES ({_marks(len(values) + 1)})", (*values, _crc(values)))


def consume_journals(db: sqlite3.Connection, journals: Iterable[tuple[str, int]], now_us: int) -> None:
    """Note that the rows of journals (name, number of rows) are in segments from now on."""
    for name, rows in journals:
        values = (name, rows, now_us)
        db.execute("INSERT INTO journals VALUES (?, ?, ?, ?)", (*values, _crc(values)))


def forget(db: sqlite3.Connection, segments: Iterable[str], journals: Iterable[str]) -> None:
    """Remove the entries of files that were deleted."""
    db.executemany("DELETE FROM segments WHERE path = ?", [(path,) for path in segments])
    db.executemany("DELETE FROM journals WHERE name = ?", [(name,) for name in journals])


def _load(layout: Layout, mode: str) -> Catalog:
    with closing(sqlite3.connect(f"{layout.catalog.as_uri()}?{mode}", uri=True, timeout=10)) as db:
        db.execute("BEGIN")
        if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return Catalog(problems=("the catalog is empty",))
        segments = db.execute("SELECT * FROM segments ORDER BY min_us, path").fetchall()
        journals = db.execute("SELECT * FROM journals").fetchall()
        is_whole = db.execute("SELECT crc FROM totals").fetchall() == [(_total(db),)]
    damaged = [f"its entry for {row[0]!r}" for row in (*segments, *journals) if row[-1] != _crc(row[:-1])]
    if not is_whole:
        damaged.append("its list of files")
    known = [Segment(*row[:-1]) for row in segments]
    return Catalog(
        segments=tuple(segment for segment in known if segment.dropped_us is None),
        dropped=tuple(segment for segment in known if segment.dropped_us is not None),
        consumed={name: consumed_us for name, _, consumed_us, _ in journals},
        problems=tuple(f"the catalog is damaged: {what} differs from its checksum" for what in damaged),
    )


def _total(db: sqlite3.Connection) -> int:
    found = db.execute("SELECT crc FROM segments UNION ALL SELECT crc FROM journals ORDER BY 1").fetchall()
    return zlib.crc32(repr(found).encode())


def _has_segments(layout: Layout) -> bool:
    return any(next(layout.segments(kind).glob("date=*/*.parquet*"), None) for kind in ("call", "span"))


def _has_log(layout: Layout) -> bool:
    """Tell whether the last changes are in SQLite's log, which an immutable reading would miss."""
    try:
        return layout.catalog.with_name(layout.catalog.name + "-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def _values(segment: Segment) -> tuple[Any, ...]:
    return tuple(getattr(segment, name) for name in Segment.__slots__)


def _crc(values: tuple[Any, ...]) -> int:
    return zlib.crc32(repr(tuple(values)).encode())


def _marks(count: int) -> str:
    return ", ".join("?" * count)
