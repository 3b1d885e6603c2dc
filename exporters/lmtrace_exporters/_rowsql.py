"""The SQL that turns files into rows of the schema's columns; readers and compaction share it.

A journal keeps JSON as it is nested; Parquet keeps the JSON columns as plain text, because DuckDB parses every value of a
column that the file calls JSON, even to count its bytes. `as_json` gives them their type again. Whatever a newer minor version
added is kept: in a journal its keys go into `extra`, in Parquet it is one more column.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Final

from lmtrace._schema import CALL_COLUMNS, SPAN_COLUMNS

COLUMNS: Final[dict[str, dict[str, str]]] = {
    "call": {**CALL_COLUMNS, "extra": "JSON"},
    "span": {**SPAN_COLUMNS, "extra": "JSON"},
}
"""Columns of both kinds of rows, with `extra` for what this version does not know."""

IDENTITY: Final = {"call": "uuid", "span": "span_id"}
"""The column that every row of a kind has."""

_NOT_EXTRA: Final = frozenset({"kind", "crc32", "output_text", "extra"})
_LARGEST_OBJECT: Final = 16 << 20
"""DuckDB's own default for one JSON object; it allocates buffers of twice this size, and takes no smaller one."""

SAFE_LENGTH: Final = _LARGEST_OBJECT // 2
"""Lines up to this length need no larger buffers."""

_OUTPUT_TEXT: Final = (
    """CASE WHEN starts_with(outputs, '["') THEN outputs ->> '$[0]' ELSE outputs ->> '$[0].text' END"""
)
"""What `OUTPUT_TEXT_SQL` says; `read_json` gives JSON without spaces, so a string need not be looked for by parsing."""


def quote(text: str | os.PathLike[str]) -> str:
    """Return a string literal."""
    return "'" + os.fspath(text).replace("'", "''") + "'"


def quote_name(text: str) -> str:
    """Return a quoted identifier."""
    return '"' + text.replace('"', '""') + '"'


def empty_sql(kind: str, *, json: str = "JSON") -> str:
    """Return a query for no rows with all columns of a kind, those of JSON with the type `json`."""
    types = {name: json if type_ == "JSON" else type_ for name, type_ in COLUMNS[kind].items()}
    columns = ", ".join(f"NULL::{type_} AS {quote_name(name)}" for name, type_ in types.items())
    return f"SELECT {columns} WHERE false"


def as_json(kind: str, source: str) -> str:
    """Return a query for the rows of another one, with the JSON columns of the kind as JSON."""
    columns = (quote_name(name) for name, type_ in COLUMNS[kind].items() if type_ == "JSON")
    return f"SELECT * REPLACE ({', '.join(f'{name}::JSON AS {name}' for name in columns)}) FROM ({source})"


def journal_sql(
    kind: str,
    files: Iterable[str | os.PathLike[str]],
    *,
    longest: int = 0,
    unknown: Iterable[str] = (),
    strict: bool = False,
) -> str:
    """Return a query for the rows of one kind in journals.

    Args:
        kind: ``"call"`` or ``"span"``.
        files: the journals; at least one.
        longest: length of their longest line.
        unknown: keys in them that the schema does not know.
        strict: fail on a line that cannot be read instead of leaving it out; the files must not grow meanwhile.
    """
    extra = sorted(set(unknown) - _NOT_EXTRA - set(COLUMNS[kind]))
    stored = {name: type_ for name, type_ in COLUMNS[kind].items() if name not in _NOT_EXTRA}
    read = {"kind": "VARCHAR", **stored, **dict.fromkeys(extra, "JSON")}
    columns = ", ".join(f"{quote(name)}: {quote(type_)}" for name, type_ in read.items())
    source = (
        f"read_json([{', '.join(quote(file) for file in files)}], format='newline_delimited', columns={{{columns}}}, "
        f"ignore_errors={'false' if strict else 'true'}, "
        f"maximum_object_size={max(_LARGEST_OBJECT, 2 * longest)})"
    )
    chosen = ", ".join(_column_sql(name, type_, extra) for name, type_ in COLUMNS[kind].items())
    return f"SELECT {chosen} FROM {source} WHERE kind = {quote(kind)} AND {IDENTITY[kind]} IS NOT NULL"


def parquet_sql(files: Iterable[str | os.PathLike[str]]) -> str:
    """Return a query for the rows of Parquet files, at least one, with the columns they have."""
    listed = ", ".join(quote(file) for file in files)
    return f"SELECT * FROM read_parquet([{listed}], union_by_name=true, hive_partitioning=false)"


def some_rows_sql(file: str | os.PathLike[str], ranges: Iterable[tuple[int, int]]) -> str:
    """Return a query for some rows of a Parquet file, by their first and last numbers; other row groups are not read."""
    numbers = " OR ".join(f"file_row_number BETWEEN {first} AND {last}" for first, last in ranges)
    source = f"read_parquet([{quote(file)}], hive_partitioning=false, file_row_number=true)"
    return f"SELECT * EXCLUDE (file_row_number) FROM {source} WHERE {numbers}"


def segments_sql(kind: str, files: Iterable[str | os.PathLike[str]]) -> str:
    """Return a query for the rows of Parquet files, at least one, with all columns of a kind and JSON as text."""
    return union_sql([empty_sql(kind, json="VARCHAR"), parquet_sql(files)])


def unknown_keys(kind: str, keys: Iterable[str]) -> set[str]:
    """Return the keys of a line that the schema does not know."""
    return set(keys) - COLUMNS[kind].keys() - _NOT_EXTRA


def _column_sql(name: str, type_: str, extra: list[str]) -> str:
    if name == "output_text":
        return f"{_OUTPUT_TEXT} AS output_text"
    if name == "extra":
        return f"{_extra_sql(extra)} AS extra"
    return quote_name(name)


def _extra_sql(extra: list[str]) -> str:
    if not extra:
        return "NULL::JSON"
    pairs = ", ".join(f"{quote(name)}, {quote_name(name)}" for name in extra)
    absent = " AND ".join(f"{quote_name(name)} IS NULL" for name in extra)
    return f"CASE WHEN {absent} THEN NULL ELSE json_merge_patch('{{}}', json_object({pairs})) END"


def union_sql(parts: Iterable[str]) -> str:
    """Return one query for the rows of several, with every column any of them has."""
    return " UNION ALL BY NAME ".join(f"({part})" for part in parts)


def day_sql(day: str) -> str:
    """Return a condition for rows that began on a day, given as an ISO date; casting each time to a date costs more."""
    return (
        f"timestamp >= TIMESTAMPTZ '{day} 00:00:00+00' AND timestamp < TIMESTAMPTZ '{day} 00:00:00+00' + INTERVAL 1 DAY"
    )


def period_sql(bounds: Mapping[str, str | None]) -> str:
    """Return a condition on `timestamp` for ``{"since": …, "until": …}``, each an ISO time or None."""
    conditions = ["true"]
    if bounds["since"] is not None:
        conditions.append(f"timestamp >= {quote(bounds['since'])}::TIMESTAMPTZ")
    if bounds["until"] is not None:
        conditions.append(f"timestamp < {quote(bounds['until'])}::TIMESTAMPTZ")
    return " AND ".join(conditions)
