"""``lmtrace ls``: the newest calls, or the newest runs, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmtrace._cli._fail import NotFoundFailure
from lmtrace._cli._filters import Filters, filter_options, json_option, limit_option, store_option
from lmtrace._cli._print import Column, note, print_json, print_rows
from lmtrace._cli._rows import SHOWN, print_calls
from lmtrace._cli._store import HOW_TO_RECORD, Row, calls, check_names, opened, rows
from lmtrace._cli._text import duration, moment, one_line, plural, short_id, tokens, total_money

if TYPE_CHECKING:
    from lmtrace_exporters import History


@click.command("ls")
@click.option("--runs", is_flag=True, help="One line for each run instead of each call.")
@limit_option(20, "lines")
@filter_options
@json_option
@store_option
def command(*, runs: bool, limit: int, filters: Filters, as_json: bool, store: Path | None) -> None:
    """List the newest calls, the newest at the end.

    The id in the second column is enough for `lmtrace show`.
    """
    with opened(store, filters) as history:
        found = (
            _runs(history, filters, limit)
            if runs
            else calls(history, filters, limit, columns="*" if as_json else SHOWN)
        )
        if not found:
            raise NotFoundFailure(_nothing(filters, runs=runs))
        if as_json:
            print_json(found)
        elif runs:
            _print_runs(found)
        else:
            print_calls(found)
        if limit and len(found) == limit and not as_json:
            note(f"the newest {limit}; more with -n, fewer with --model, --run, --since, --errors")


def _nothing(filters: Filters, *, runs: bool) -> str:
    if runs:
        return 'no call in a run; open one with `with lmtrace.run("name"):`'
    return "no call fits" if filters != Filters() else f"the store is empty; {HOW_TO_RECORD}"


def _runs(history: History, filters: Filters, limit: int) -> list[Row]:
    condition, params = filters.sql()
    query = f"""
        SELECT run_id, any_value(run_name) AS run_name, min(timestamp) AS started,
            date_diff('microsecond', min(timestamp), max(timestamp + to_microseconds((duration_ms * 1000)::BIGINT)))
                / 1000 AS duration_ms,
            count(*) AS calls, count(error_type) AS errors,
            sum(input_tokens) FILTER (served_by = 'provider') AS input_tokens, sum(output_tokens) FILTER (served_by = 'provider') AS output_tokens,
            sum(billed_cost) AS cost, count(*) FILTER (billed_cost IS NULL AND error_type IS NULL) AS unknown_costs
        FROM calls WHERE run_id IS NOT NULL AND {condition}
        GROUP BY run_id ORDER BY started DESC {f"LIMIT {limit}" if limit else ""}"""
    found = rows(history, query, params)
    if not found:
        check_names(history, filters)
    return found[::-1]


def _print_runs(found: list[Row]) -> None:
    print_rows(
        [
            (Column("started", style="dim"), lambda row: moment(row["started"])),
            (Column("id", style="cyan"), lambda row: short_id(row["run_id"])),
            (Column("run", flexible=True), lambda row: one_line(row["run_name"])),
            (Column("calls", right=True), lambda row: f"{row['calls']:,}"),
            (Column("errors", right=True), lambda row: f"{row['errors']:,}" if row["errors"] else "-"),
            (Column("tokens", right=True), lambda row: tokens(row["input_tokens"], row["output_tokens"])),
            (Column("cost", right=True), lambda row: total_money(row["cost"], row["unknown_costs"])),
            (Column("took", right=True), lambda row: duration(row["duration_ms"])),
        ],
        found,
    )
    note(plural(len(found), "run"))
