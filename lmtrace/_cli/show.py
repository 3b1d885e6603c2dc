"""``lmtrace show``: one call with all that is known of it, or the tree of a trace or a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmtrace._cli._call import print_call
from lmtrace._cli._fail import NotFoundFailure, UsageFailure, nearest
from lmtrace._cli._filters import Filters, json_option, store_option
from lmtrace._cli._print import print_json
from lmtrace._cli._store import HOW_TO_RECORD, Row, calls, flushed, opened, rows
from lmtrace._cli._text import SHORTEST, moment, one_line, short_id
from lmtrace._cli._tree import print_tree

if TYPE_CHECKING:
    from lmtrace_exporters import History

LAST = "last"


@click.command("show")
@click.argument("reference", metavar="[CALL|TRACE|RUN]", default=LAST)
@click.option("--tree", is_flag=True, help="The whole trace of a call instead of the call.")
@click.option("--raw", is_flag=True, help="Request and response as JSON, too.")
@json_option
@store_option
def command(*, reference: str, tree: bool, raw: bool, as_json: bool, store: Path | None) -> None:
    """Show a call, or the tree of a trace or run.

    Any start or end of an id will do, or the name of a run; without one it is the last call.
    """
    with opened(store) as history:
        call = _call(history, reference)
        if call is not None and not (tree and call["trace_id"]):
            if as_json:
                print_json([call])
            else:
                print_call(call, raw=raw)
            return
        condition, value = ("trace_id = ?", call["trace_id"]) if call is not None else _group(history, reference)
        found = rows(history, f"SELECT * FROM calls WHERE {condition} ORDER BY timestamp, uuid", [value])
        spans = rows(
            history, f"SELECT * FROM spans WHERE call_uuid IS NULL AND {condition} ORDER BY timestamp", [value]
        )
    if as_json:
        print_json([{"row": "span"} | row for row in spans] + [{"row": "call"} | row for row in found])
    else:
        print_tree(found, spans)


def show_run(run_id: str) -> None:
    """Print the tree of a run of this process; everything it recorded is flushed first.

    Raises:
        Failure: the store is off or cannot be read.
    """
    with flushed() as history:
        found = rows(history, "SELECT * FROM calls WHERE run_id = ? ORDER BY timestamp, uuid", [run_id])
        spans = rows(history, "SELECT * FROM spans WHERE call_uuid IS NULL AND run_id = ? ORDER BY timestamp", [run_id])
    print_tree(found, spans)


def _call(history: History, reference: str) -> Row | None:
    """The call that `reference` names, or None when it names none.

    Raises:
        Failure: it fits several calls, or there is no call at all.
    """
    if reference == LAST:
        newest = calls(history, Filters(), 1)
        if not newest:
            raise NotFoundFailure(f"the store is empty; {HOW_TO_RECORD}")
        return newest[0]
    if len(reference) < SHORTEST:
        return None
    condition = "starts_with(uuid, ?) OR ends_with(uuid, ?) OR span_id = ?"
    found = rows(history, f"SELECT uuid, timestamp, model FROM calls WHERE {condition} LIMIT 6", [reference] * 3)
    if len(found) > 1:
        raise UsageFailure(f"{reference!r} fits several calls: {', '.join(_named(row) for row in found[:5])}")
    return history.call(found[0]["uuid"]) if found else None


def _named(row: Row) -> str:
    return f"{short_id(row['uuid'])} ({moment(row['timestamp'])}, {row['model']})"


def _group(history: History, reference: str) -> tuple[str, Any]:
    """The condition for the trace or run that `reference` names; of several runs of one name, the newest.

    Raises:
        Failure: it names neither; the message has the nearest ids and names.
    """
    for column, test in (
        ("trace_id", "starts_with(trace_id, ?)"),
        ("run_id", "run_name = ?"),
        ("run_id", "starts_with(run_id, ?)"),
        ("run_id", "ends_with(run_id, ?)"),
    ):
        for view in ("calls", "spans"):
            query = f"SELECT {column} AS id FROM {view} WHERE {test} ORDER BY timestamp DESC LIMIT 1"
            found = rows(history, query, [reference])
            if found:
                return f"{column} = ?", found[0]["id"]
    raise NotFoundFailure(
        f"no call, trace or run {reference!r}{_suggestion(history, reference)}; `lmtrace ls` lists them"
    )


def _suggestion(history: History, reference: str) -> str:
    query = """
        SELECT uuid AS id, right(uuid, 8) AS short FROM calls
        UNION ALL (SELECT DISTINCT run_name, run_name FROM calls WHERE run_name IS NOT NULL)
        UNION ALL (SELECT DISTINCT trace_id, left(trace_id, 8) FROM calls WHERE trace_id IS NOT NULL) LIMIT 5000"""
    found = rows(history, query)
    known = {row["short"] if len(reference) <= 12 else row["id"] for row in found}
    return nearest(one_line(reference), known)
