"""``lmtrace tail``: the newest calls, and with ``-f`` those that follow as they finish."""

from __future__ import annotations

import time
from pathlib import Path

import click

from lmtrace._cli._fail import NotFoundFailure
from lmtrace._cli._filters import Filters, filter_options, json_option, limit_option, store_option
from lmtrace._cli._follow import Follower
from lmtrace._cli._print import console, note, print_json, text
from lmtrace._cli._rows import SHOWN, answered, asked, price, short_model
from lmtrace._cli._store import Row, calls, opened, store_path
from lmtrace._cli._text import duration, moment, short_id, tokens

POLL_SECONDS = 0.25


@click.command("tail")
@click.option("-f", "--follow", is_flag=True, help="Go on with the calls that follow, until interrupted.")
@limit_option(10)
@filter_options
@json_option
@store_option
def command(*, follow: bool, limit: int, filters: Filters, as_json: bool, store: Path | None) -> None:
    """Show the newest calls, each with the end of its question and of its answer."""
    path = store_path(store)
    if not follow:
        with opened(store, filters) as history:
            found = calls(history, filters, limit, columns="*" if as_json else SHOWN)
        if not found:
            raise NotFoundFailure("no call fits")
        _show(found, as_json=as_json)
        return
    follower = Follower(path)
    if limit and (path / "store.json").exists():
        with opened(store, filters) as history:
            _show(calls(history, filters, limit, columns="*" if as_json else SHOWN), as_json=as_json)
    note(f"following {path}; end with Ctrl-C")
    try:
        _follow(follower, filters, as_json=as_json)
    except KeyboardInterrupt:
        note("")


def _follow(follower: Follower, filters: Filters, *, as_json: bool) -> None:
    while True:
        _show([row for row in follower.new_calls() if fits(row, filters)], as_json=as_json)
        time.sleep(POLL_SECONDS)


def fits(row: Row, filters: Filters) -> bool:
    """Whether a call that was read from a journal is one the filters choose; the same rules as `Filters.sql`."""
    scope, model, run = row["scope"] or "", row["model"] or "", row["run_id"] or ""
    return (
        filters.model in {None, model, row["response_model"], model.rpartition("/")[2]}
        and (
            filters.run in {None, run, row["run_name"]}
            or run.startswith(str(filters.run))
            or run.endswith(str(filters.run))
        )
        and (filters.trace is None or str(row["trace_id"]).startswith(filters.trace))
        and (filters.scope is None or f"{scope}.".startswith(f"{filters.scope}."))
        and (filters.since is None or row["timestamp"] >= filters.since)
        and (filters.until is None or row["timestamp"] < filters.until)
        and (not filters.errors or row["error_type"] is not None)
    )


def _show(found: list[Row], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    printer = console()
    for row in found:
        head = (
            f"{moment(row['timestamp'])}  {short_id(row['uuid'])}  {short_model(row['model'])}  "
            f"{duration(row['duration_ms'])}  {tokens(row['input_tokens'], row['output_tokens'])}  {price(row)}"
        )
        printer.print(text(head, "dim"))
        for mark, line in (("  > ", asked(row)), ("  < ", answered(row))):
            shown = text(mark + line, "red" if row["error_type"] and mark == "  < " else "")
            printer.print(shown, no_wrap=True, overflow="ellipsis")
