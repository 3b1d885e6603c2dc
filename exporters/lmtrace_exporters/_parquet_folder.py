"""An exporter for a folder of Parquet files that never change, for engines and buckets that know nothing of a store.

Each batch becomes one file for each kind of row, complete and synced before it gets its name, so a reader of
``calls/*.parquet`` meets whole files only. There is no catalog, no merging and no recovery; that is what a store is for.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lmtrace._exporter import Record
from lmtrace_exporters._batching import Batching, PartialWriteError
from lmtrace_exporters._duck import connect
from lmtrace_exporters._layout import sync_folder
from lmtrace_exporters._rowsql import empty_sql, quote, union_sql
from lmtrace_exporters._spool import Spool, remove_stale, write_readable

if TYPE_CHECKING:
    import duckdb

FOLDERS: Final = {"call": "calls", "span": "spans"}
"""Where the files of a kind are."""

PARQUET: Final = (
    "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3, ROW_GROUP_SIZE 4096, ROW_GROUP_SIZE_BYTES '32MB')"
)


class ParquetExporter(Batching):
    """Keeps records as Parquet files in ``calls/`` and ``spans/`` of a folder, one for each batch.

    A file is written when `seconds` have passed or `size` bytes of records wait, and by `force_flush`. A killed process
    loses what waited, an ended one nothing if it is flushed, which `lmtrace.configure(exporters=[…])` does.
    """

    def __init__(self, folder: str | os.PathLike[str], *, seconds: float = 30.0, size: int = 16 << 20) -> None:
        """Prepare the exporter; the folder is made with the first record.

        Args:
            folder: where the files go, from any number of processes.
            seconds: how long a record may wait in memory.
            size: bytes of records, as JSON, that make a file.
        """
        self._folder = Path(folder).absolute()
        super().__init__(os.fspath(self._folder), seconds, size)

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder

    def _prepare(self) -> None:
        for name in FOLDERS.values():
            (self._folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._prepared:
                remove_stale(self._folder / name, ".*.parquet.tmp")
        if not self._prepared:
            remove_stale(self._folder)

    def _write(self, records: list[Record]) -> None:
        self._prepare()
        written: list[str] = []

        def write(connection: duckdb.DuckDBPyConnection, spool: Spool) -> None:
            for kind in spool.records.keys() - set(written):
                _write_file(connection, spool, kind, self._folder / FOLDERS[kind])
                written.append(kind)

        try:
            with connect(threads=1) as connection:
                refused = write_readable(connection, records, self._folder, write)
        except Exception as error:
            if not written:
                raise
            rest = [record for record in records if record.kind not in written]
            raise PartialWriteError(str(error), rest) from error
        if refused:
            raise PartialWriteError(f"{refused} records are no rows that DuckDB can read", refused=refused)


def _write_file(connection: duckdb.DuckDBPyConnection, spool: Spool, kind: str, folder: Path) -> None:
    name = f"{time.time_ns()}-{os.getpid()}-{os.urandom(4).hex()}.parquet"
    final, draft = folder / name, folder / f".{name}.tmp"
    try:
        rows = union_sql([empty_sql(kind), spool.sql(kind)])
        connection.execute(f"COPY ({rows}) TO {quote(draft)} {PARQUET}")
        draft.chmod(0o600)
        _sync(draft)
        draft.rename(final)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(folder)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
