"""Reading a store: SQL over segments and live journals, beside any number of writers, without a lock.

Each query sees the rows that were written before it: the views are made again when files came or went. What cannot be
read is left out and named in `problems`; nothing is ever skipped in silence.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from lmtrace_exporters._blobs import fetch
from lmtrace_exporters._duck import connect, explain, lock
from lmtrace_exporters._errors import HistoryQueryError
from lmtrace_exporters._find import Search, newest_that_fit
from lmtrace_exporters._forks import after_fork, leave_behind
from lmtrace_exporters._layout import Layout
from lmtrace_exporters._newest import newest
from lmtrace_exporters._quarantine import reports
from lmtrace_exporters._rows import from_table
from lmtrace_exporters._rowsql import (
    COLUMNS,
    SAFE_LENGTH,
    as_json,
    empty_sql,
    journal_sql,
    period_sql,
    segments_sql,
    union_sql,
)
from lmtrace_exporters._scan import Scan
from lmtrace_exporters._search import PLACES, Sieve, Wanted
from lmtrace_exporters._snapshot import Problem, Snapshot, plain_copy, take_snapshot
from lmtrace_exporters._views import TEXT_MACRO, VIEWS

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Parameters = Sequence[Any] | Mapping[str, Any]
Result = TypeVar("Result")


class Fetched(NamedTuple):
    """The whole answer to a query."""

    columns: list[str]
    types: list[str]
    """DuckDB's names of the columns' types."""
    rows: list[tuple[Any, ...]]


def open_history(
    path: str | os.PathLike[str], *, since: datetime | None = None, until: datetime | None = None
) -> History:
    """Open a store for reading; a missing or empty one has no rows.

    Args:
        path: the store directory.
        since: leave out rows that began before this time.
        until: leave out rows that began at or after this time.

    Raises:
        StoreVersionError: a newer lmtrace wrote the store.
        StoreError: the store's description is damaged.
    """
    history = History(path, since=since, until=until)
    history._layout.check()
    return history


class History:
    """The rows of one store as DuckDB views: calls, messages, spans, runs, rollouts, costs, candidates and examples.

    It is a context manager. Use it from one thread; a forked child that uses an inherited one gets its own connection.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, since: datetime | None = None, until: datetime | None = None
    ) -> None:
        """Prepare for reading; nothing is opened before the first question. See `open_history`."""
        self._layout = Layout(Path(path).absolute())
        self._since, self._until = since, until
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._snapshot: Snapshot | None = None
        self._copies: Path | None = None
        self._journals: list[Path] = []
        """What is read of each journal: itself, or a copy without damaged lines."""
        self._frozen = False
        after_fork(self, History._leave_parents)

    @property
    def path(self) -> Path:
        """The store directory."""
        return self._layout.root

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What in the store cannot be served now, and why."""
        found = take_snapshot(self._layout, self._since, self._until).problems
        return (*found, *(Problem(path, reason) for path, reason in reports(self._layout)))

    def materialise(self) -> None:
        """Read all rows into memory: text searches get faster, and later queries see no newer rows."""
        connection = self._refreshed()
        for name in ("calls", "stored_spans"):
            connection.execute(f"CREATE TEMP TABLE {name}_in_memory AS FROM {name}")
            connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS FROM {name}_in_memory")
        self._frozen = True

    def sql(self, query: str, params: Parameters | None = None) -> duckdb.DuckDBPyRelation:
        """Return the answer to a query as DuckDB's relation: ``fetchall()``, ``df()``, ``arrow()``, ``pl()``, ``show()``.

        Args:
            query: one SELECT in DuckDB's SQL.
            params: values for ``?`` or ``$name`` in it.

        Raises:
            HistoryQueryError: the query is wrong.
        """
        return self._ask(query, params, lambda relation: relation)

    def fetch(self, query: str, params: Parameters | None = None) -> Fetched:
        """Return the whole answer to a query: its columns, their types and its rows.

        Unlike a relation that is read later, this cannot meet a file that a compaction deleted meanwhile.

        Raises:
            HistoryQueryError: the query is wrong.
        """
        return self._ask(query, params, _fetched)

    def df(self, query: str = "FROM calls", params: Parameters | None = None) -> Any:
        """Return the answer to a query, all calls by default, as a data frame of pandas.

        Raises:
            HistoryQueryError: the query is wrong, or pandas is not installed; `arrow` does without.
        """
        if find_spec("pandas") is None:
            raise HistoryQueryError("a data frame needs pandas: pip install pandas; .arrow() gives a table without it")
        return self._ask(query, params, lambda relation: relation.df())

    def arrow(self, query: str = "FROM calls", params: Parameters | None = None) -> pa.Table:
        """Return the answer to a query, all calls by default, as a table of Arrow.

        Raises:
            HistoryQueryError: the query is wrong.
        """
        return self._ask(query, params, lambda relation: relation.to_arrow_table())

    def recent(self, count: int = 50) -> list[dict[str, Any]]:
        """Return the newest calls, newest first, as dictionaries of the schema's columns with JSON decoded.

        Much faster than SQL on a large store: only the newest files are opened.
        """
        return newest(self._layout, count, self._since, self._until, self._fresh_connection)

    def find(self, where: str, params: Sequence[Any] = (), *, count: int, columns: str = "*") -> Fetched:
        """Return the newest calls that fit a condition, newest first, without reading further back than needed.

        Args:
            where: a condition on the columns of `calls`.
            params: values for the ``?`` in it.
            count: how many rows are enough.
            columns: the columns wanted, in SQL.

        Raises:
            HistoryQueryError: the condition or a column is wrong.
        """
        return self._found(where, Search(columns=columns, where=where, params=tuple(params), count=count))

    def search(
        self,
        text: str,
        *,
        places: Sequence[str] = tuple(PLACES),
        regex: bool = False,
        case: bool = False,
        where: str = "TRUE",
        params: Sequence[Any] = (),
        count: int | None = 20,
        columns: str = "*",
    ) -> Fetched:
        """Return the newest calls that hold a text anywhere, also inside a word, newest first.

        Parts of the history that cannot hold the text are not read where that is known; see `compact`.

        Args:
            text: what is looked for.
            places: where: ``"prompt"``, ``"answer"``, ``"error"``.
            regex: take the text for a regular expression.
            case: whether upper and lower case differ.
            where: a further condition on the columns of `calls`.
            params: values for the ``?`` in it.
            count: how many rows are enough; None for all.
            columns: the columns wanted, in SQL.

        Raises:
            HistoryQueryError: the regular expression, the condition or a column is wrong.
        """
        wanted = Wanted(text=text, places=tuple(places), regex=regex, case=case)
        condition, values = wanted.condition()
        where, all_params = f"({where}) AND {condition}", (*params, *values)
        if count is None:
            query = f"SELECT {columns} FROM calls WHERE {where} ORDER BY timestamp DESC, uuid DESC"
            return self.fetch(query, all_params)
        rows_of = Sieve(self._layout, wanted).rows_of
        return self._found(where, Search(columns=columns, where=where, params=all_params, count=count, rows_of=rows_of))

    def call(self, uuid: str) -> dict[str, Any] | None:
        """Return the one call whose uuid begins with `uuid`, payloads over 1 MB included, or None.

        Raises:
            HistoryQueryError: several calls begin so.
        """
        rows = self._rows("call", "SELECT * FROM calls WHERE starts_with(uuid, ?) LIMIT 2", [uuid])
        if len(rows) > 1 and rows[0]["uuid"] != uuid:
            raise HistoryQueryError(f"several calls begin with {uuid!r}: give more of the uuid")
        return {name: fetch(value, self._layout.blobs) for name, value in rows[0].items()} if rows else None

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """Return the spans of a trace, calls among them, in the order they began."""
        return self._rows("span", "SELECT * FROM spans WHERE trace_id = ? ORDER BY timestamp, span_id", [trace_id])

    def close(self) -> None:
        """Close the connection and remove temporary files."""
        if self._connection is not None:
            self._connection.close()
        if self._copies is not None:
            shutil.rmtree(self._copies, ignore_errors=True)
        self._forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _rows(self, kind: str, query: str, params: Parameters) -> list[dict[str, Any]]:
        found = self.fetch(query, params)
        return [from_table(kind, dict(zip(found.columns, row, strict=True))) for row in found.rows]

    def _ask(self, query: str, params: Parameters | None, use: Callable[[duckdb.DuckDBPyRelation], Result]) -> Result:
        return self._retried(query, lambda: use(self._refreshed().sql(query, params=params)))

    def _retried(self, query: str, ask: Callable[[], Result]) -> Result:
        import duckdb

        for is_last in (False, True):
            try:
                return ask()
            except FileNotFoundError:
                if is_last:
                    raise
            except duckdb.Error as error:
                if is_last or self._frozen or not isinstance(error, duckdb.IOException):
                    raise explain(error, query, list(COLUMNS["call"])) from error
            self._snapshot = None  # a compaction deleted a file: its rows are in another one by now
        raise AssertionError

    def _found(self, query: str, search: Search) -> Fetched:
        period = period_sql({"since": _iso(self._since), "until": _iso(self._until)})
        timely = replace(search, where=f"({search.where}) AND {period}")
        return self._retried(query, lambda: self._find(timely))

    def _find(self, search: Search) -> Fetched:
        connection = self._refreshed()
        journals, segments = "FROM calls", []
        if not self._frozen and self._snapshot is not None:
            journals = union_sql([empty_sql("call"), *self._journal_parts("call", self._snapshot)])
            segments = [(found, self.path / found.path) for found in self._snapshot.segments if found.kind == "call"]
        return Fetched(*newest_that_fit(connection, search, journals, segments))

    def _fresh_connection(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            self._connection = connect()
        return self._connection

    def _forget(self) -> None:
        self._connection = self._copies = self._snapshot = None
        self._frozen = False

    def _leave_parents(self) -> None:
        if self._connection is not None:
            leave_behind(self._connection)
        self._forget()

    def _refreshed(self) -> duckdb.DuckDBPyConnection:
        connection = self._fresh_connection()
        if self._frozen:
            return connection
        snapshot = take_snapshot(self._layout, self._since, self._until)
        if self._snapshot is None or _files(snapshot) != _files(self._snapshot):
            self._make_views(connection, snapshot)
            self._snapshot = snapshot
        return connection

    def _lock(self, memory_mb: int) -> duckdb.DuckDBPyConnection:
        """Return the connection, from now on with nothing but the files of this moment to read; see `_untrusted`."""
        connection = self._refreshed()
        segments = self._snapshot.segments if self._snapshot is not None else ()
        files = [*self._journals, *(self.path / segment.path for segment in segments)]
        lock(connection, [os.fspath(file) for file in files], memory_mb)
        self._frozen = True
        return connection

    def _make_views(self, connection: duckdb.DuckDBPyConnection, snapshot: Snapshot) -> None:
        self._journals = [self._readable(journal) for journal in snapshot.journals]
        for kind, name in (("call", "calls"), ("span", "stored_spans")):
            rows = union_sql(self._parts(kind, snapshot))
            where = period_sql({"since": _iso(self._since), "until": _iso(self._until)})
            connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM ({rows}) WHERE {where}")
        if self._snapshot is None:
            connection.execute(TEXT_MACRO)
        for name, query in VIEWS.items():
            connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {query}")

    def _parts(self, kind: str, snapshot: Snapshot) -> list[str]:
        segments = [self.path / segment.path for segment in snapshot.segments if segment.kind == kind]
        parquet = [as_json(kind, segments_sql(kind, segments))] if segments else []
        return [empty_sql(kind), *parquet, *self._journal_parts(kind, snapshot)]

    def _journal_parts(self, kind: str, snapshot: Snapshot) -> list[str]:
        if not self._journals:
            return []
        unknown = frozenset().union(*(journal.unknown for journal in snapshot.journals))
        longest = max(journal.longest for journal in snapshot.journals)
        return [journal_sql(kind, self._journals, longest=longest, unknown=unknown)]

    def _readable(self, journal: Scan) -> Path:
        if journal.is_plain:
            return journal.path
        if self._copies is None:
            self._copies = Path(tempfile.mkdtemp(prefix="lmtrace-"))
        return plain_copy(journal, self._copies)


def _fetched(relation: duckdb.DuckDBPyRelation) -> Fetched:
    return Fetched(list(relation.columns), [str(type_) for type_ in relation.types], relation.fetchall())


def _files(snapshot: Snapshot) -> tuple[object, ...]:
    """What the views depend on: a journal that only grew is read as it is."""
    journals = [
        (journal.path, journal.unknown, journal.longest > SAFE_LENGTH, None if journal.is_plain else journal)
        for journal in snapshot.journals
    ]
    return journals, snapshot.segments


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat() if moment is not None else None
