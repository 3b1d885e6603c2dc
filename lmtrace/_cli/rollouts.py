"""``lmtrace rollouts``: requests that were asked under several rollout ids, and the answers of one of them side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmtrace._cli._fail import NotFoundFailure
from lmtrace._cli._fields import Fields, answers_of, prompt_of
from lmtrace._cli._filters import json_option, limit_option, store_option
from lmtrace._cli._print import Column, console, note, print_json, print_rows, print_table, text
from lmtrace._cli._reference import resolve
from lmtrace._cli._rows import answered, asked, error_line, price, short_model
from lmtrace._cli._store import Row, flushed, opened, rows
from lmtrace._cli._text import brief_moment, duration, money, one_line, plural, short_id

if TYPE_CHECKING:
    from rich.text import Text

    from lmtrace_exporters import History

EXAMPLES = """
    \b
    lmtrace rollouts                 requests with several rollouts
    lmtrace rollouts rag-v2          those of a run
    lmtrace rollouts 9c21a0f4        all rollouts of the request of a call, side by side
"""


@click.command("rollouts", epilog=EXAMPLES)
@click.argument("reference", metavar="[CALL|RUN]", required=False)
@limit_option(20, "lines")
@json_option
@store_option
def command(*, reference: str | None, limit: int, as_json: bool, store: Path | None) -> None:
    """Compare the answers to a request that was asked under several rollout ids.

    With DSPy the answers are shown field by field, with the score of the example they were made for.
    """
    with opened(store) as history:
        calls = None if reference is None else resolve(history, reference).calls
        if calls is not None and len(calls) == 1:
            _print_one(_rollouts_of(history, calls[0]), as_json=as_json)
            return
        found = _requests(history, calls, limit)
    if as_json:
        print_json(found)
    else:
        print_requests(found, limit)


def show_rollouts(run_id: str) -> None:
    """Print the requests of a run of this process that have several rollouts; everything recorded is flushed first.

    Raises:
        Failure: the store is off or cannot be read, or there is no such request.
    """
    with flushed() as history:
        found = _requests(history, resolve(history, run_id).calls, 0)
    print_requests(found, 0)


def _requests(history: History, calls: list[Row] | None, limit: int) -> list[Row]:
    """The requests with several rollouts, the newest at the end, each with the call that answered first."""
    keys = None if calls is None else sorted({row["request_key"] for row in calls if row["request_key"]})
    query = f"""
        SELECT rollouts.*, len(list_distinct(rollouts.outputs)) AS answers, scope, prompt, messages, adapter, signature
        FROM rollouts JOIN calls ON calls.uuid = rollouts.uuids[1]
        WHERE $keys IS NULL OR list_contains($keys::VARCHAR[], rollouts.request_key)
        ORDER BY started DESC {f"LIMIT {limit}" if limit else ""}"""
    found = rows(history, query, {"keys": keys})
    if not found:
        raise NotFoundFailure("no request was asked under several rollout ids")
    return found[::-1]


def print_requests(found: list[Row], limit: int) -> None:
    """A table of requests."""
    print_rows(
        [
            (Column("time", style="dim", optional=2), lambda row: brief_moment(row["started"])),
            (Column("id", style="cyan"), lambda row: short_id(row["uuids"][0])),
            (Column("model", optional=1), lambda row: one_line(short_model(row["model"]), 28)),
            (Column("scope", flexible=True, optional=3), lambda row: one_line(row["scope"], 40) or "-"),
            (Column("asked", flexible=True), asked),
            (Column("rollouts", right=True), lambda row: str(row["rollouts"])),
            (Column("answers", right=True), lambda row: str(row["answers"])),
            (Column("cost", right=True), lambda row: money(row["cost"])),
        ],
        found,
    )
    more = f", the newest {limit}; more with -n" if limit and len(found) == limit else ""
    note(f"{plural(len(found), 'request')}{more}; side by side: lmtrace rollouts {short_id(found[-1]['uuids'][0])}")


# --- one request -----------------------------------------------------------------------------------------------------------


def _rollouts_of(history: History, call: Row) -> list[Row]:
    """The newest call of each rollout of the same request, in the order the rollouts began, with scores."""
    query = """
        SELECT calls.*, examples.score, examples.feedback FROM calls LEFT JOIN examples USING (example_id)
        WHERE calls.request_key = ? QUALIFY row_number() OVER (PARTITION BY rollout_id ORDER BY calls.timestamp DESC) = 1
        ORDER BY calls.timestamp, calls.uuid"""
    return (
        rows(history, query, [call["request_key"]])
        if call["request_key"]
        else [call | {"score": None, "feedback": None}]
    )


def _print_one(found: list[Row], *, as_json: bool) -> None:
    if as_json:
        print_json([_line(row) for row in found])
        return
    _print_head(found)
    answers = [_answer(row) for row in found]
    names = list(dict.fromkeys(name for fields in answers for name in reversed(fields)))
    same = {name for name in names if len({fields.get(name) for fields in answers}) == 1} if len(found) > 1 else set()
    for name in names:
        if name in same:
            _print_fact(f"{name} (all the same)", answers[0][name])
    columns, lines = _table(found, answers, [name for name in names if name not in same])
    console().print()
    print_table(columns, lines)
    note(f"word by word: lmtrace diff {short_id(found[0]['uuid'])} {short_id(found[-1]['uuid'])}")


def _print_head(found: list[Row]) -> None:
    row, printer = found[0], console()
    facts = [short_model(row["model"]), row["scope"], row["adapter"], plural(len(found), "rollout")]
    printer.print(text(" · ".join(one_line(fact, 60) for fact in facts if fact), "bold"), soft_wrap=True)
    prompt = prompt_of(row)
    if prompt is None:
        _print_fact("asked", asked(row))
        return
    _print_fact("instructions", prompt.instructions)
    if prompt.demos:
        _print_fact("demos", str(len(prompt.demos)))
    for name, said in prompt.inputs:
        _print_fact(name, said)


def _print_fact(name: str, said: str) -> None:
    line = text(f"  {name}: ", "dim")
    line.append_text(text(one_line(said, 400)))
    console().print(line, soft_wrap=True)


def _answer(row: Row) -> dict[str, str]:
    fields: list[Fields] | None = None if row["error_type"] else answers_of(row)
    if fields is None:
        return {"answer": f"✗ {error_line(row)}" if row["error_type"] else answered(row)}
    return {name or "text": said for name, said in fields[0]}


def _table(
    found: list[Row], answers: list[dict[str, str]], names: list[str]
) -> tuple[list[Column], list[list[str | Text]]]:
    scored = any(row["score"] is not None for row in found)
    columns = [Column("rollout"), Column("id", style="cyan")]
    columns += [Column("score", right=True, style="bold")] if scored else []
    columns += [Column(one_line(name, 30), flexible=True) for name in names]
    columns += [Column("cost", right=True), Column("took", right=True, optional=1)]
    lines: list[list[str | Text]] = []
    for row, fields in zip(found, answers, strict=True):
        score = ["-" if row["score"] is None else f"{row['score']:g}"] if scored else []
        said = [one_line(fields.get(name, ""), 200) for name in names]
        lines.append(
            ["-" if row["rollout_id"] is None else one_line(row["rollout_id"], 20), short_id(row["uuid"]), *score, *said,
             price(row), duration(row["duration_ms"])]
        )  # fmt: skip
    return columns, lines


def _line(row: Row) -> dict[str, Any]:
    known = (
        "uuid",
        "request_key",
        "rollout_id",
        "scope",
        "model",
        "score",
        "feedback",
        "cost",
        "billed_cost",
        "error_type",
    )
    fields = answers_of(row)
    answer = {"output_text": row["output_text"], "fields": None if fields is None else dict(fields[0])}
    return {name: row[name] for name in known} | answer
