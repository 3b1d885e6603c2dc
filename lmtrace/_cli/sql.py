"""``lmtrace sql``: the history in SQL, for questions no option foresees."""

from __future__ import annotations

import csv
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import click

from lmtrace._cli._fail import EnvironmentFailure, UsageFailure
from lmtrace._cli._filters import json_option, limit_option, store_option
from lmtrace._cli._print import Column, note, print_json, print_table
from lmtrace._cli._store import Row, existing_store, opened, rows
from lmtrace._cli._text import money, one_line
from lmtrace._spreadsheet import inert

CELL = 120
"""Characters of a value that a table shows at most."""

MOST_ROWS = 100_000
"""Rows of an untrusted query at most."""

EXAMPLES = """
    \b
    lmtrace sql "select model, count(*), sum(cost) from calls group by 1"
    lmtrace sql "select uuid, role, content from messages where content like '%Paris%'"
    lmtrace sql --schema
"""


@click.command("sql", epilog=EXAMPLES)
@click.argument("query", required=False)
@click.option("-f", "--file", type=click.File(encoding="utf-8"), help="Read the query from a file; - is stdin.")
@click.option("--schema", is_flag=True, help="List the views and their columns.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV on stdout.")
@click.option(
    "--untrusted", is_flag=True, help="Somebody else wrote the query: one SELECT, no files, little time and memory."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="Seconds for an --untrusted query.",
)
@limit_option(1000, "lines of a table")
@json_option
@store_option
def command(
    *,
    query: str | None,
    file: IO[str] | None,
    schema: bool,
    as_csv: bool,
    untrusted: bool,
    timeout: float,
    limit: int,
    as_json: bool,
    store: Path | None,
) -> None:
    """Ask DuckDB. Views: calls, messages, spans, runs, rollouts, costs, candidates, examples."""
    question = _SCHEMA if schema else query or (file.read() if file else None)
    if not question:
        raise UsageFailure('give a query, for example: lmtrace sql "select model, count(*) from calls group by 1"')
    if untrusted:
        found = _untrusted_rows(store, question, timeout, limit or MOST_ROWS)
    else:
        with opened(store) as history:
            found = rows(history, question)
    if as_json:
        print_json(found)
    elif as_csv:
        _print_csv(found)
    else:
        _print(found[:limit] if limit else found)
        if limit and len(found) > limit:
            note(f"{limit:,} of {len(found):,} lines; all with -n 0, --json or --csv")


_SCHEMA = """
    SELECT table_name AS view, column_name AS column, data_type AS type
    FROM information_schema.columns WHERE table_name <> 'stored_spans' ORDER BY table_name, ordinal_position"""


def _untrusted_rows(store: Path | None, question: str, timeout: float, limit: int) -> list[Row]:
    path = existing_store(store)
    from lmtrace_exporters import HistoryQueryError, QueryLimitError, StoreError, query_untrusted

    try:
        answer = query_untrusted(path, question, seconds=timeout, rows=limit)
    except QueryLimitError as error:
        raise EnvironmentFailure(f"{error}; --timeout gives more time") from None
    except HistoryQueryError as error:
        raise UsageFailure(str(error)) from None
    except StoreError as error:
        raise EnvironmentFailure(str(error)) from None
    if answer.truncated:
        note(f"the first {limit:,} rows; more with -n")
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def _print_csv(found: list[Row]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if found:
        writer.writerow(found[0])
    writer.writerows([inert(_plain(value)) for value in row.values()] for row in found)


def _print(found: list[Row]) -> None:
    if not found:
        note("no rows")
        return
    numbers = {name for name in found[0] if all(isinstance(row[name], int | float | None) for row in found)}
    columns = [Column(name, right=name in numbers, flexible=name not in numbers) for name in found[0]]
    print_table(columns, [[_shown(name, value) for name, value in row.items()] for row in found])


def _plain(value: Any) -> Any:
    """A value as CSV has it: JSON for what is nested, ISO for times."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return value.isoformat() if isinstance(value, datetime) else value


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return money(value) if "cost" in name else f"{value:.6g}"
    return one_line(str(_plain(value)), CELL)
