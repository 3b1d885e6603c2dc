"""The second place the cache looks: ``index.sqlite`` in the store, which all processes share.

The index is derived: the rows of the store can give it again, so nothing here is worth an error in a call, and what is
damaged is replaced. Each version of its format has a table of its own, and versions beside each other leave each other
alone. An entry's rowid is the time it was made, so the oldest are the first in the table; the key has an index beside it.

In WAL mode a look-up waits for no writer and sees what others have just written. Writers take turns: what finds the
database busy waits in memory for the next write.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lmtrace._keys import KEY_VERSION
from lmtrace_replay._cached import sealed, unsealed

TABLE: Final = f"answers_{KEY_VERSION}_1"
"""Named after the versions of keys and of the entries' form."""

_CREATE: Final = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, value BLOB NOT NULL)"
)
_GET: Final = f"SELECT id, value FROM {TABLE} WHERE key = ?"  # noqa: S608 - a constant of ours
_PUT: Final = f"INSERT OR IGNORE INTO {TABLE} (id, key, value) VALUES (?, ?, ?)"  # noqa: S608
_DISCARD: Final = f"DELETE FROM {TABLE} WHERE key = ?"  # noqa: S608
_EXPIRE: Final = f"DELETE FROM {TABLE} WHERE key = ? AND id < ?"  # noqa: S608
_TRIM: Final = f"DELETE FROM {TABLE} WHERE id IN (SELECT id FROM {TABLE} WHERE id < ? ORDER BY id LIMIT ?)"  # noqa: S608

_BUSY_S: Final = 0.02
"""How long a call may wait for another writer."""

_TRIM_EVERY: Final = 64
_TRIM_ROWS: Final = 256
_MOST_WAITING: Final = 16 << 20
_PAGES: Final = -8_192
"""SQLite's cache for each connection, in KB below zero."""

_FOREVER: Final = 2**63 - 1
_BUSY: Final = frozenset({5, 6})  # SQLITE_BUSY, SQLITE_LOCKED
_DAMAGED: Final = frozenset({11, 26})  # SQLITE_CORRUPT, SQLITE_NOTADB

Entry = tuple[int, bytes, bytes]
"""When it was made (nanoseconds since the epoch), its key, its value."""


@dataclass(frozen=True, slots=True)
class IndexFigures:
    """What an index holds."""

    entries: int = 0
    bytes: int = 0
    oldest_ns: int | None = None
    newest_ns: int | None = None


class Index:
    """The entries of one store. Safe in threads and in forked processes; nothing is opened before it is needed.

    Args:
        path: The database.
        max_bytes: Its size, above which the oldest entries go.
        ttl_ns: Age at which an entry counts no more; None for never.
        time_ns: The clock.
        on_create: Told when a table was made, because there was none of this version or it was damaged.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        ttl_ns: int | None = None,
        time_ns: Callable[[], int] = time.time_ns,
        on_create: Callable[[], object] | None = None,
    ) -> None:
        self.path = path
        self.dropped = 0
        """Entries that could not be written."""
        self.hits = 0
        """Entries that were looked for and found."""
        self.writes = 0
        """Entries that were written, or were there already."""
        self._max_bytes = max_bytes
        self._ttl_ns = ttl_ns
        self._time_ns = time_ns
        self._on_create = on_create
        self._begin()

    def _begin(self) -> None:
        self._reader = _Connection(self.path, threading.RLock())
        self._writer = _Connection(self.path, threading.Lock(), writes=True)
        self._waiting: deque[Entry] = deque()
        self._puts = 0

    def in_child(self) -> None:
        """After a fork: the connections are the parent's, and SQLite must not even close them here."""
        _left_behind.extend((self._reader, self._writer))
        self._begin()

    # --- reading ---------------------------------------------------------------------------------------------------

    def get(self, key: bytes) -> tuple[int, bytes] | None:
        """When the entry was made, and its value; None when there is none that counts.

        Raises:
            sqlite3.Error: the database cannot be read; a damaged one has been removed.
            OSError: likewise.
        """
        try:
            with self._reader.lock:
                connection = self._reader.opened()
                found = None if connection is None else connection.execute(_GET, (key,)).fetchone()
        except sqlite3.Error as error:
            if _is_missing(error) or _code(error) in _BUSY:
                return None
            self._renew(error)
            raise
        if found is None:
            return None
        whole = isinstance(found[0], int) and isinstance(found[1], bytes)  # a flipped bit may change a type
        if whole and found[0] < self._cutoff():
            return None
        value = unsealed(found[1]) if whole else None
        if value is None:
            self._change(lambda db: db.execute(_DISCARD, (key,)))
            return None
        self.hits += 1
        return found[0], value

    def check(self) -> list[str]:
        """What is wrong with the database, in words; a missing one is fine, as it is made again.

        Raises:
            sqlite3.Error: it is locked.
        """
        with self._reader.lock:
            try:
                connection = self._reader.opened()
                if connection is None:
                    return []
                found = [text for (text,) in connection.execute("PRAGMA integrity_check(5)") if text != "ok"]
                return [*found, *_damaged_entries(connection)]
            except sqlite3.Error as error:
                self._reader.forget()
                if _code(error) in _BUSY:
                    raise
                return [str(error)]

    def _cutoff(self) -> int:
        """The time before which an entry counts no more."""
        return 0 if self._ttl_ns is None else self._time_ns() - self._ttl_ns

    # --- writing ---------------------------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes, created_ns: int) -> None:
        """Keep an entry, unless there is one under its key.

        Raises:
            sqlite3.Error: the database does not take it; a damaged one has been removed.
            OSError: likewise.
        """
        self.put_many([(created_ns, key, sealed(value))])

    def put_many(self, entries: Iterable[Entry]) -> None:
        """Keep entries whose values are sealed."""
        self._waiting.extend(entries)
        # Whoever holds the lock writes for all; what came after its last look is seen by the next round of the loop.
        while self._waiting and self._writer.lock.acquire(blocking=False):
            try:
                if not self._write_waiting(_BUSY_S):
                    break
            finally:
                self._writer.lock.release()

    def flush(self, seconds: float = 2.0) -> bool:
        """Write what found the database busy; tell whether that was done in time."""
        if not self._waiting:
            return True
        with self._writer.lock:
            return self._write_waiting(seconds)

    def _write_waiting(self, patience: float) -> bool:
        """Write everything that waits, in one transaction. False when another process holds the database."""
        taken: list[Entry] = []
        while self._waiting:
            taken.append(self._waiting.popleft())
        try:
            self._write(taken, patience)
        except (sqlite3.Error, OSError) as error:
            if isinstance(error, sqlite3.Error) and _code(error) in _BUSY:
                self._keep_waiting(taken)
                return False
            self.dropped += len(taken)
            self._forget(error)
            raise
        return True

    def _write(self, entries: list[Entry], patience: float) -> None:
        connection = self._writer.opened() or self._made()
        connection.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")
        if not entries:
            return
        cutoff = self._cutoff()
        with _transaction(connection):
            created = _create(connection)
            if cutoff:
                connection.executemany(_EXPIRE, [(key, cutoff) for _, key, _ in entries])
            connection.executemany(_PUT, entries)
            self.writes += len(entries)
            self._puts += len(entries)
            if self._puts >= _TRIM_EVERY:
                self._puts = 0
                self._trim(connection, cutoff)
        if created and self._on_create is not None:
            self._on_create()

    def _trim(self, connection: sqlite3.Connection, cutoff: int) -> None:
        """Remove what is too old, and the oldest when there is too much; some of it, the next time some more."""
        if cutoff:
            connection.execute(_TRIM, (cutoff, _TRIM_ROWS))
        if _used_bytes(connection) > self._max_bytes:
            connection.execute(_TRIM, (_FOREVER, _TRIM_ROWS))

    def _made(self) -> sqlite3.Connection:
        """A connection to a database that did not exist; its folder is for this user only."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        connection = self._writer.opened()
        if connection is None:
            raise FileNotFoundError(str(self.path))
        return connection

    def _keep_waiting(self, entries: list[Entry]) -> None:
        self._waiting.extendleft(reversed(entries))
        size = sum(len(value) for _, _, value in entries)
        while size > _MOST_WAITING and self._waiting:
            size -= len(self._waiting.popleft()[2])
            self.dropped += 1

    def _change(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Do something to the database if that is possible now."""
        with contextlib.suppress(sqlite3.Error, OSError), self._writer.lock:
            connection = self._writer.opened()
            if connection is not None:
                work(connection)

    # --- the whole -------------------------------------------------------------------------------------------------

    def clear(self) -> int:
        """Remove all entries, those of other versions too; returns how many of this version there were.

        Raises:
            sqlite3.Error: another process holds the database, or it cannot be written.
        """
        with self._writer.lock:
            connection = self._writer.opened()
            if connection is None:
                return 0
            connection.execute("PRAGMA busy_timeout = 10000")
            with _transaction(connection):
                tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
                entries = self._count(connection) if TABLE in tables else 0
                for name in tables:
                    connection.execute(f'DROP TABLE "{name.replace(chr(34), chr(34) * 2)}"')
                connection.execute(_CREATE)
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return entries

    def forget_before(self, time_ns: int) -> int:
        """Remove the entries made before a time; returns how many that were.

        Raises:
            sqlite3.Error: another process holds the database, or it cannot be written.
        """
        removed, last = 0, _TRIM_ROWS
        while last == _TRIM_ROWS:  # in small portions, so that nobody waits for long
            with self._writer.lock:
                connection = self._writer.opened()
                if connection is None:
                    return removed
                connection.execute("PRAGMA busy_timeout = 10000")
                with _transaction(connection):
                    _create(connection)
                    last = connection.execute(_TRIM, (time_ns, _TRIM_ROWS)).rowcount
            removed += last
        return removed

    def figures(self) -> IndexFigures:
        """What the index holds now.

        Raises:
            sqlite3.Error: the database cannot be read.
        """
        with self._reader.lock:
            connection = self._reader.opened()
            if connection is None:
                return IndexFigures()
            size = sum(path.stat().st_size for path in _files(self.path) if path.exists())
            try:
                span = connection.execute(f"SELECT min(id), max(id) FROM {TABLE}").fetchone()  # noqa: S608
                return IndexFigures(self._count(connection), size, *span)
            except sqlite3.OperationalError as error:
                if not _is_missing(error):
                    raise
                return IndexFigures(bytes=size)

    @staticmethod
    def _count(connection: sqlite3.Connection) -> int:
        count: int = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchone()[0]  # noqa: S608
        return count

    def close(self) -> None:
        """Close the connections; a later use opens them again."""
        for connection in (self._reader, self._writer):
            with connection.lock:
                connection.close()

    def _renew(self, error: sqlite3.Error) -> None:
        """After an error in reading, with no lock held."""
        with self._writer.lock:
            self._forget(error)

    def _forget(self, error: Exception) -> None:
        """After an error: open anew the next time; a damaged database is removed, so that the next write makes one."""
        with self._reader.lock:
            mark = self._reader.mark or self._writer.mark
            self._reader.forget()
            self._writer.forget()
            damaged = isinstance(error, sqlite3.Error) and _code(error) in _DAMAGED
            if damaged and mark is not None and mark == _mark(self.path):
                _remove(self.path)


def _damaged_entries(connection: sqlite3.Connection) -> Iterator[str]:
    try:
        entries = connection.execute(f"SELECT value FROM {TABLE}")  # noqa: S608
        damaged = sum(not isinstance(value, bytes) or unsealed(value) is None for (value,) in entries)
    except sqlite3.OperationalError as error:
        if not _is_missing(error):
            raise
        return
    if damaged:
        yield f"{damaged:,} answers differ from their checksum"


def _remove(path: Path) -> None:
    """Remove a database, itself last: a new one would take an old log beside it for its own."""
    for file in reversed(_files(path)):
        with contextlib.suppress(OSError):
            file.unlink()


class _Connection:
    """A connection to whatever file has the name now."""

    def __init__(self, path: Path, lock: Any, *, writes: bool = False) -> None:
        self.lock = lock
        self.mark: tuple[int, int] | None = None
        """The file that is open, or that could not be opened."""
        self._path = path
        self._writes = writes
        self._connection: sqlite3.Connection | None = None

    def opened(self) -> sqlite3.Connection | None:
        """The connection, or None when there is no database."""
        mark = _mark(self._path)
        if mark != self.mark or self._connection is None:
            self.close()
            self.mark = mark
            if mark is not None:
                self._connection = _connect(self._path, writes=self._writes)
        return self._connection

    def close(self) -> None:
        """Close it, so that the next use opens one."""
        connection, self._connection, self.mark = self._connection, None, None
        if connection is not None:
            connection.close()

    def forget(self) -> None:
        """The same after an error, whatever closing says."""
        with contextlib.suppress(sqlite3.Error):
            self.close()


_left_behind: Final[list[_Connection]] = []
"""Connections of the processes this one was forked from."""


def _connect(path: Path, *, writes: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=_BUSY_S,
    )
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = {_PAGES}")
        if writes:
            connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.Error:
        connection.close()
        raise
    except UnicodeDecodeError as error:  # SQLite quotes a damaged schema in its message
        connection.close()
        raise sqlite3.DatabaseError("the schema is damaged") from error
    return connection


def _create(connection: sqlite3.Connection) -> bool:
    """Make the table of this version if there is none; tell whether that was needed."""
    exists = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (TABLE,)).fetchone()
    if not exists:
        connection.execute(_CREATE)
    return not exists


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _used_bytes(connection: sqlite3.Connection) -> int:
    values = [
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    ]
    pages, free, size = values
    used: int = (pages - free) * size
    return used


def _files(path: Path) -> tuple[Path, Path, Path]:
    return path, path.with_name(f"{path.name}-shm"), path.with_name(f"{path.name}-wal")


def _mark(path: Path) -> tuple[int, int] | None:
    """Which file has the name; another one after somebody has replaced it."""
    try:
        status = os.stat(path)  # noqa: PTH116 - `Path.stat` costs three times as much
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_missing(error: sqlite3.Error) -> bool:
    return "no such table" in str(error)
