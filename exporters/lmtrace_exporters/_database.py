"""An exporter for one DuckDB database file, and the tables and views every database of ours has.

DuckDB lets one process at a time have a file, and a connection that crosses a fork loses rows in silence. So the file is
open only while a batch is written: processes take turns, children open it themselves, and other programs can read in
between. A batch is one transaction.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lmtrace._exporter import Record
from lmtrace_exporters._batching import Batching, PartialWriteError
from lmtrace_exporters._rowsql import COLUMNS, empty_sql, quote_name
from lmtrace_exporters._spool import Spool, remove_stale, write_readable
from lmtrace_exporters._views import TEXT_MACRO, VIEWS

if TYPE_CHECKING:
    import duckdb

TABLES: Final = {"call": "calls", "span": "stored_spans"}
"""Where the rows of a kind are."""

_TURN_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.02


class DuckDBExporter(Batching):
    """Keeps records in a DuckDB database file with the tables and views of ``lmtrace export``.

    Records wait in memory for about `seconds` and are then inserted as one transaction; `force_flush` does it at once. A
    killed process loses what waited, an ended one nothing if it is flushed, which `lmtrace.configure(exporters=[…])` does.
    While another program holds the file, records wait (up to 64 MB) and `export` says so.
    """

    def __init__(self, path: str | os.PathLike[str], *, seconds: float = 1.0) -> None:
        """Prepare the exporter; the file is made with the first record.

        Args:
            path: the database file; an existing one gets the rows added.
            seconds: how long a record may wait in memory.
        """
        self._path = Path(path).absolute()
        super().__init__(os.fspath(self._path), seconds)

    @property
    def path(self) -> Path:
        """The database file."""
        return self._path

    def _prepare(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._path.is_dir():
            raise IsADirectoryError(f"{self._path} is a folder")
        if not self._prepared:
            remove_stale(self._path.parent)

    def _write(self, records: list[Record]) -> None:
        self._prepare()
        connection = _take_turn(self._path)
        try:
            add_tables(connection)
            refused = write_readable(connection, records, self._path.parent, _insert)
        finally:
            connection.close()
        if refused:
            raise PartialWriteError(f"{refused} records are no rows that DuckDB can read", refused=refused)


def add_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Give a database the tables, views and columns that this version knows and it lacks."""
    for kind, table in TABLES.items():
        connection.execute(f"CREATE TABLE IF NOT EXISTS {table} AS {empty_sql(kind)}")
        there = {row[0] for row in connection.execute(f"DESCRIBE {table}").fetchall()}
        for name in COLUMNS[kind].keys() - there:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {quote_name(name)} {COLUMNS[kind][name]}")
    connection.execute(TEXT_MACRO.replace("OR REPLACE TEMP MACRO", "MACRO IF NOT EXISTS"))
    for name, query in VIEWS.items():
        connection.execute(f"CREATE VIEW IF NOT EXISTS {name} AS {query}")


def _insert(connection: duckdb.DuckDBPyConnection, spool: Spool) -> None:
    connection.begin()
    try:
        for kind in spool.records:
            connection.execute(f"INSERT INTO {TABLES[kind]} BY NAME {spool.sql(kind)}")
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _take_turn(path: Path) -> duckdb.DuckDBPyConnection:
    """Open the database, after the process that has it now."""
    import duckdb

    deadline = time.monotonic() + _TURN_SECONDS
    while True:
        try:
            connection = duckdb.connect(path)
        except duckdb.IOException as error:
            if "lock" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            path.chmod(0o600)
            connection.execute("SET TimeZone = 'UTC'")
            return connection
