"""DuckDB connections of ours: in memory, without extensions from the network, and with errors that help.

A DuckDB writer would lock out every other process, and a connection that crosses a fork loses rows in silence; so none
of ours opens a database file to write, and a child opens its own.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Final

from lmtrace_exporters._errors import HistoryQueryError
from lmtrace_exporters._rowsql import quote
from lmtrace_exporters._views import NAMES

if TYPE_CHECKING:
    import duckdb

_CONFIG: Final[dict[str, str | bool | int | float | list[str]]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,  # a query must not read the variables of the program that asks
}
_UNKNOWN: Final = re.compile(r"(?:Table with name|column|function with name|Scalar Function with name) \"?([\w.]+)\"?")


def connect(**settings: str | int) -> duckdb.DuckDBPyConnection:
    """Return a fresh in-memory connection; times are in UTC."""
    import duckdb

    connection = duckdb.connect(":memory:", config={**_CONFIG, **settings})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET parquet_metadata_cache = true")  # segments never change; a question reads each footer twice
    return connection


def explain(error: Exception, query: str, columns: list[str]) -> HistoryQueryError:
    """Return what is wrong with a query, with the nearest names that exist."""
    text = str(error).strip()
    unknown = _UNKNOWN.search(text)
    near = difflib.get_close_matches(unknown[1], [*NAMES, *columns], n=3, cutoff=0.5) if unknown else []
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return HistoryQueryError(f"{text.splitlines()[0]}; {hint}the views are {', '.join(NAMES)}. The query was: {query}")


def lock(connection: duckdb.DuckDBPyConnection, files: list[str], memory_mb: int) -> None:
    """Leave a connection only these files to read, little memory, and no way to change that."""
    for name, value in {
        "threads": "2",
        "memory_limit": f"'{memory_mb}MB'",
        "max_temp_directory_size": "'0KB'",
        "temp_directory": "''",
        "allowed_directories": "[]",
        "allowed_paths": f"[{', '.join(quote(file) for file in files)}]",
        "enable_external_access": "false",
        "lock_configuration": "true",
    }.items():
        connection.execute(f"SET {name} = {value}")
