"""Decide from DuckDB's own syntax tree whether a query only reads the views of a history.

That a statement is a SELECT says little: DuckDB 2.0 allows COPY, INSERT and DELETE inside WITH, tables can be file names,
and functions read files, variables and settings. So this is a list of what may occur, and everything else is refused. It is
the first of three walls; the second is DuckDB's own locked configuration, the third a process that can be killed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from lmtrace_exporters._errors import QueryRefusedError
from lmtrace_exporters._views import NAMES

if TYPE_CHECKING:
    import duckdb

_QUERIES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_SOURCES: Final = frozenset({"BASE_TABLE", "SUBQUERY", "JOIN", "EMPTY", "TABLE_FUNCTION", "EXPRESSION_LIST", "PIVOT"})
_TABLE_FUNCTIONS: Final = frozenset({"unnest", "range", "generate_series", "json_each", "json_tree"})
_REFUSED_FUNCTIONS: Final = re.compile(
    r"getvariable|getenv|current_(?!date$|time$|timestamp$|localtime|localtimestamp).*|set_config|set_?seed|setval|nextval|currval|write_log|"
    r"(pg_)?sleep.*|version|txid_.*|in_search_path|stats|.*_external_.*|read_.*|query.*|glob|which_secret|json_(de)?serialize.*|"
    r"json_execute.*|pg_(?!size_pretty$|typeof$).*|inet_.*|session_user|user|has_.*_privilege|st_.*|.*_scan|parquet_.*|duckdb_.*|pragma_.*"
)
"""Functions that tell about the machine, have effects, or read what is not in the views."""

_IDENTIFIER: Final = re.compile(r"(?!(duckdb|pragma|pg|sqlite|information)_)[a-z_][a-z0-9_]*")


def check_select(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Refuse a query unless it is one SELECT over the views and nothing else.

    Raises:
        QueryRefusedError: it is something else; the message says what.
    """
    import duckdb

    try:
        statements = connection.extract_statements(query)
    except duckdb.Error as error:
        raise QueryRefusedError(str(error).strip().splitlines()[0]) from error
    if len(statements) != 1:
        raise QueryRefusedError(f"one statement is allowed, not {len(statements)}")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise QueryRefusedError(f"only SELECT is allowed, not {statements[0].type.name}")
    nodes = list(_nodes(_tree(connection, query)))
    views = {*NAMES, *_named_queries(nodes)}
    for node in nodes:
        _check(node, views)


def _tree(connection: duckdb.DuckDBPyConnection, query: str) -> Any:
    found = connection.execute("SELECT json_serialize_sql($query)", {"query": query}).fetchone()
    try:
        tree = json.loads(found[0]) if found else {"error": True}
    except (ValueError, RecursionError) as error:
        raise QueryRefusedError("the query is nested too deeply") from error
    if tree.get("error"):
        raise QueryRefusedError(f"this kind of SELECT is not allowed: {tree.get('error_message')}")
    return tree


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _named_queries(nodes: list[dict[str, Any]]) -> set[str]:
    """The names that WITH gives; one that could be a file or a view of DuckDB's own is refused."""
    names = {str(entry["key"]).lower() for node in nodes for entry in node.get("cte_map", {}).get("map", ())}
    for name in names:
        if not _IDENTIFIER.fullmatch(name):
            raise QueryRefusedError(f"WITH {name!r} is not allowed: choose another name")
    return names


def _check(node: dict[str, Any], views: set[str]) -> None:
    kind = str(node.get("type", ""))
    if ("cte_map" in node or kind.endswith("_NODE")) and kind not in _QUERIES:
        raise QueryRefusedError(f"only SELECT is allowed, not {kind.removesuffix('_QUERY_NODE').removesuffix('_NODE')}")
    if "info_type" in node:
        raise QueryRefusedError(f"{node['info_type']} is not allowed")
    if "sample" in node and "cte_map" not in node and "class" not in node and kind not in _SOURCES:
        raise QueryRefusedError(f"{kind} is not allowed; the views are {', '.join(NAMES)}")
    if kind == "BASE_TABLE":
        _check_table(node, views)
    elif kind == "TABLE_FUNCTION":
        _check_name(node["function"], _TABLE_FUNCTIONS)
    elif "function_name" in node:
        _check_name(node)


def _check_table(node: dict[str, Any], views: set[str]) -> None:
    name = str(node.get("table_name", "")).lower()
    if node.get("catalog_name") or node.get("schema_name") or node.get("at_clause") or name not in views:
        raise QueryRefusedError(f"{name!r} cannot be read; the views are {', '.join(NAMES)}")


def _check_name(node: dict[str, Any], allowed: frozenset[str] | None = None) -> None:
    name = str(node["function_name"]).lower()
    refused = name not in allowed if allowed is not None else _REFUSED_FUNCTIONS.fullmatch(name)
    if refused and not (allowed is None and name in _TABLE_FUNCTIONS):
        raise QueryRefusedError(f"the function {name!r} is not allowed")
    if node.get("catalog") or node.get("schema") not in ("", "main", None):
        raise QueryRefusedError(f"the function {name!r} must be named without a schema")
