"""Rows as plain dictionaries, the same whether they come from a journal or from Parquet.

JSON columns are decoded, `timestamp` is an aware datetime in UTC, an absent value is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import orjson

from lmtrace_exporters._rowsql import COLUMNS, unknown_keys

_JSON: Final = {
    kind: frozenset(n for n, type_ in columns.items() if type_ == "JSON") for kind, columns in COLUMNS.items()
}


def from_line(line: bytes) -> dict[str, Any]:
    """Return the row of an intact journal line.

    Raises:
        ValueError: the line is no row of this format.
    """
    data: dict[str, Any] = orjson.loads(line)
    kind = data["kind"]
    row = {name: data.get(name) for name in COLUMNS[kind]}
    row["timestamp"] = datetime.fromisoformat(data["timestamp"])
    row["extra"] = {name: data[name] for name in sorted(unknown_keys(kind, data))} or None
    if "output_text" in row:
        row["output_text"] = output_text(row["outputs"])
    return row


def from_table(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of one DuckDB result."""
    return {name: _decoded(value) if name in _JSON[kind] else value for name, value in values.items()}


def output_text(outputs: Any) -> str | None:
    """Return the text of the first candidate, as the schema's SQL does."""
    first = outputs[0] if isinstance(outputs, list) and outputs else None
    if isinstance(first, dict):
        first = first.get("text")
    return first if first is None or isinstance(first, str) else orjson.dumps(first).decode()


def _decoded(value: Any) -> Any:
    return orjson.loads(value) if isinstance(value, str) else value
