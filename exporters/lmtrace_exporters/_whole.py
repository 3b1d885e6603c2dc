"""Rows with the payloads over 1 MB that their store keeps apart: what leaves a store must not point back into it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson

from lmtrace_exporters._blobs import fetch
from lmtrace_exporters._rows import output_text
from lmtrace_exporters._rowsql import COLUMNS, quote_name

if TYPE_CHECKING:
    from lmtrace_exporters._history import History

_MARK: Final = '"$lmtrace":"blob"'
_IDENTITY: Final = {"call": "{0}.uuid", "span": "concat({0}.trace_id, {0}.span_id)"}


def whole(kind: str, row: dict[str, Any], history: History) -> dict[str, Any]:
    """Return a row of a query with its payloads in their places; JSON columns stay text."""
    found = {name: value for name, value in row.items() if isinstance(value, str) and _MARK in value}
    for name, value in found.items():
        row[name] = _fetched(value, COLUMNS[kind].get(name) == "JSON", history)
    if "outputs" in found and "output_text" in row:
        row["output_text"] = output_text(orjson.loads(row["outputs"]))
    return row


def whole_sql(history: History, kind: str, query: str, params: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    """Return a query, with its parameters, for the rows of another with their payloads in their places."""
    if not history._layout.blobs.exists():
        return query, params
    connection = history._refreshed()
    names = [name for name, type_ in COLUMNS[kind].items() if type_ in ("JSON", "VARCHAR")]
    marked = " OR ".join(f"contains({quote_name(name)}, ?)" for name in names)
    columns = ", ".join(map(quote_name, names))
    found = f"SELECT {_IDENTITY[kind].format('a')} AS identity, {columns} FROM ({query}) a WHERE {marked}"
    table = f"whole_{kind}s"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {found} LIMIT 0", [*params, *[_MARK] * len(names)])
    rows = connection.execute(found, [*params, *[_MARK] * len(names)]).fetchall()
    if not rows:
        return query, params
    holders = ", ".join("?" * (len(names) + 1))
    connection.executemany(f"INSERT INTO {table} VALUES ({holders})", list(_whole_rows(kind, names, rows, history)))
    chosen = ", ".join(f"coalesce(b.{name}, a.{name}) AS {name}" for name in map(quote_name, names))
    return (
        f"SELECT a.* REPLACE ({chosen}) FROM ({query}) a LEFT JOIN {table} b "
        f"ON b.identity = {_IDENTITY[kind].format('a')} ORDER BY a.timestamp"
    ), params


def _whole_rows(
    kind: str, names: Sequence[str], rows: Sequence[tuple[Any, ...]], history: History
) -> Iterator[tuple[Any, ...]]:
    for identity, *values in rows:
        row = whole(kind, dict(zip(names, values, strict=True)), history)
        yield identity, *row.values()


def _fetched(text: str, is_json: bool, history: History) -> str:  # noqa: FBT001 - private
    folder = history._layout.blobs
    if is_json:
        return orjson.dumps(fetch(orjson.loads(text), folder)).decode()
    value = fetch(text, folder)  # a column of text holds nothing but the reference
    return value if isinstance(value, str) else text
