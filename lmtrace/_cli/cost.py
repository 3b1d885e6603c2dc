"""``lmtrace cost``: money and tokens, grouped.

Spent is what was billed, in tokens and in money: an answer from a cache or a recording costs nothing, whatever it cost once. A call whose price
nobody knows is counted as unknown, beside the sum and never in it.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from lmtrace._cli._fail import NotFoundFailure
from lmtrace._cli._filters import Filters, filter_options, json_option, limit_option, store_option
from lmtrace._cli._print import Column, note, print_json, print_table
from lmtrace._cli._store import Row, check_names, opened, rows
from lmtrace._cli._text import count, money, one_line, plural, total_money

_FIRST_TEXT = "coalesce(messages ->> '$[0].content', prompt, messages ->> '$[0]', messages ->> '$')"

GROUPS = {
    "model": "model",
    "provider": "provider",
    "prompt": _FIRST_TEXT,
    "run": "coalesce(run_name, run_id)",
    "rollout": "rollout_id",
    "scope": "scope",
    "predictor": "scope",
    "day": "strftime(timestamp + to_seconds($offset), '%Y-%m-%d')",
    "hour": "strftime(timestamp + to_seconds($offset), '%Y-%m-%d %H:00')",
    "served": "served_by",
    "error": "error_type",
    "operation": "operation",
}
"""What calls can be grouped by, in SQL; days and hours are local, by today's distance from UTC. A prompt is known by its first message: the system prompt, where there is one; a predictor by its scope, which is its path in the program."""

_SORTED_BY_TIME = {"day", "hour"}


@click.command("cost")
@click.option("--by", type=click.Choice(list(GROUPS)), default="model", show_default=True, help="What to group by.")
@limit_option(20, "groups")
@filter_options
@json_option
@store_option
def command(*, by: str, limit: int, filters: Filters, as_json: bool, store: Path | None) -> None:
    """Show what calls cost, the most expensive group first."""
    with opened(store, filters) as history:
        condition, params = filters.sql()
        found = rows(history, _query(by, condition), params)
        if not found:
            check_names(history, filters)
            raise NotFoundFailure("no call fits")
    shown = found[:limit] if limit else found
    if as_json:
        print_json(shown)
        return
    _print(by, shown, found)
    if len(shown) < len(found):
        note(f"{len(shown)} of {plural(len(found), 'group')}; all with -n 0")


def _query(by: str, condition: str) -> str:
    order = '"group"' if by in _SORTED_BY_TIME else "spent DESC NULLS LAST, calls DESC"
    return f"""
        SELECT {GROUPS[by].replace("$offset", str(_utc_offset()))} AS "group", count(*) AS calls, count(error_type) AS errors,
            count(*) FILTER (served_by <> 'provider') AS reused,
            sum(input_tokens) FILTER (served_by = 'provider') AS input_tokens, sum(output_tokens) FILTER (served_by = 'provider') AS output_tokens,
            sum(billed_cost) AS spent, coalesce(sum(cost) - sum(billed_cost), 0) AS saved,
            count(*) FILTER (billed_cost IS NULL AND error_type IS NULL) AS unknown
        FROM calls WHERE {condition} GROUP BY 1 ORDER BY {order}"""


def _utc_offset() -> float:
    offset = datetime.now().astimezone().utcoffset()
    return offset.total_seconds() if offset else 0


def _print(by: str, shown: list[Row], found: list[Row]) -> None:
    whole = sum(row["spent"] or 0 for row in found)
    columns = [
        Column(by, flexible=True),
        Column("calls", right=True),
        Column("errors", right=True),
        Column("in", right=True),
        Column("out", right=True),
        Column("spent", right=True),
        Column("share", right=True),
        Column("saved", right=True),
    ]
    lines = [_line(row, whole) for row in shown]
    if len(found) > 1:
        lines.append(("total", *_line(_total(found), whole)[1:]))
    print_table(columns, lines)


def _line(row: Row, whole: float) -> tuple[str, ...]:
    return (
        one_line(str(row["group"]), 100) if row["group"] is not None else "-",
        f"{row['calls']:,}",
        f"{row['errors']:,}" if row["errors"] else "-",
        count(row["input_tokens"]),
        count(row["output_tokens"]),
        total_money(row["spent"], row["unknown"]),
        f"{(row['spent'] or 0) / whole:.0%}" if whole else "-",
        money(row["saved"]) if row["saved"] else "-",
    )


def _total(found: list[Row]) -> Row:
    names = ("calls", "errors", "input_tokens", "output_tokens", "spent", "saved", "unknown")
    return {"group": "total"} | {name: sum(row[name] or 0 for row in found) for name in names}
