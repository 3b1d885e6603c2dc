"""``lmtrace candidates``: what a run evaluated, the best first; one of them with its instructions and its examples."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmtrace._candidates import rank
from lmtrace._cli._candidates import candidate_of, candidates_of, numbered, title
from lmtrace._cli._filters import json_option, limit_option, store_option
from lmtrace._cli._print import Column, console, note, print_json, print_rows, text
from lmtrace._cli._store import Row, opened, rows
from lmtrace._cli._text import duration, one_line, plural, tokens, total_money

if TYPE_CHECKING:
    from rich.text import Text

CHOSEN = "★"

EXAMPLES = """
    \b
    lmtrace candidates                   those of the last run
    lmtrace candidates mipro             those of a run
    lmtrace candidates mipro#3           one of them, with its examples, the worst first
    lmtrace diff mipro#3 mipro#7         two of them
"""


@click.command("candidates", epilog=EXAMPLES)
@click.argument("reference", metavar="[RUN|RUN#N]", default="last")
@limit_option(30, "lines")
@json_option
@store_option
def command(*, reference: str, limit: int, as_json: bool, store: Path | None) -> None:
    """Rank what a run evaluated by its score, with what each candidate cost.

    A candidate is an evaluation by dspy.Evaluate, also inside of an optimiser, or what SIMBA or BootstrapFewShot scores. RUN is a name, an id or a part of one, or last~N.
    """
    with opened(store) as history:
        one = candidate_of(history, reference) if numbered(reference)[1] is not None else None
        if one is not None:
            query = "SELECT * FROM examples WHERE evaluation_id = ? ORDER BY score NULLS FIRST, position"
            _show(one, rows(history, query, [one["evaluation_id"]]), limit, as_json=as_json)
            return
        found = _ranked(candidates_of(history, reference))
    if as_json:
        print_json(found)
    else:
        print_candidates(found, limit)


def _ranked(found: Iterable[Row]) -> list[Row]:
    return sorted(found, key=lambda row: (rank(row["score"]), row["place"]))


def print_candidates(found: list[Row], limit: int = 0) -> None:
    """A table of candidates."""
    shown = found[:limit] if limit else found
    print_rows(
        [
            (Column("#", right=True, style="cyan"), lambda row: str(row["place"])),
            (Column("score", right=True), _score),
            (Column("failed", right=True, optional=4), lambda row: str(row["failed"]) if row["failed"] else "-"),
            (Column("examples", right=True, optional=3), lambda row: str(row["examples"])),
            (Column("program", flexible=True), name_of),
            (Column("demos", right=True, optional=5), lambda row: "-" if row["demos"] is None else str(row["demos"])),
            (Column("prompt", optional=6, style="dim"), lambda row: (row["instructions_hash"] or "-")[:6]),
            (Column("calls", right=True), lambda row: f"{row['calls']:,}"),
            (Column("tokens", right=True, optional=2), lambda row: tokens(row["input_tokens"], row["output_tokens"])),
            (Column("cost", right=True), _spent),
            (Column("took", right=True, optional=1), lambda row: duration(row["duration_ms"])),
        ],
        shown,
    )
    _print_sum(found, shown)


def _score(row: Row) -> Text:
    score = "✗" if row["score"] is None else f"{row['score']:.2f}"
    return text(f"{CHOSEN} {score}" if row["chosen"] else score, "bold green" if row["chosen"] else "bold")


def _spent(row: Row) -> str:
    return total_money(row["billed_cost"], row["unknown_costs"])


def name_of(row: Row) -> str:
    """The program, what its evaluation is called, and what ended it."""
    label = row["label"].removeprefix("eval_") if row["label"] else None
    parts = [row["program"], label, f"✗ {row['error_type']}" if row["error_type"] else None]
    return " · ".join(one_line(part, 60) for part in parts if part)


def _print_sum(found: list[Row], shown: list[Row]) -> None:
    run = found[0]["run_name"]
    spent = sum(row["billed_cost"] or 0.0 for row in found)
    optimisers = sorted({row["optimiser"] for row in found if row["optimiser"]})
    parts = [
        plural(len(found), "candidate") + (f" of {one_line(run, 60)}" if run else ""),
        *(one_line(name, 60) for name in optimisers),
        total_money(spent, sum(row["unknown_costs"] for row in found)),
        *([f"{CHOSEN} what the optimiser chose"] if any(row["chosen"] for row in found) else []),
        *([f"the best {len(shown)} shown, all with -n 0"] if len(shown) < len(found) else []),
    ]
    note(" · ".join(parts))
    note(f"one with its examples: lmtrace candidates {_quoted(run)}#{found[0]['place']}")


def _quoted(run: str | None) -> str:
    if run is None:
        return "last"
    return one_line(run, 60) if re.fullmatch(r"[\w.-]+", run) else "RUN"


# --- one candidate --------------------------------------------------------------------------------------------------------


def _show(row: Row, examples: list[Row], limit: int, *, as_json: bool) -> None:
    if as_json:
        print_json([{"row": "candidate"} | row, *({"row": "example"} | example for example in examples)])
        return
    printer = console()
    printer.print(text(title(row), "bold"), soft_wrap=True)
    optimiser = None if row["number"] is None else f"{row['optimiser']}'s evaluation {row['number']}"
    facts = [
        name_of(row),
        *([one_line(optimiser, 80)] if optimiser else []),
        *([f"{CHOSEN} chosen"] if row["chosen"] else []),
        f"{row['examples']} examples, {row['failed'] or 0} failed",
        plural(row["calls"], "call"),
        _spent(row),
        duration(row["duration_ms"]),
        f"evaluation {row['evaluation_id']}",
    ]
    printer.print(text(" · ".join(facts), "dim"), soft_wrap=True)
    for name, predictor in (row["predictors"] or {}).items():
        _print_predictor(name, predictor)
    printer.print()
    shown = examples[:limit] if limit else examples
    print_rows(
        [
            (Column("example", right=True, style="cyan"), lambda row: str(row["position"])),
            (
                Column("score", right=True, style="bold"),
                lambda row: "-" if row["score"] is None else f"{row['score']:g}",
            ),
            (Column("wanted", flexible=True), lambda row: _fields(row["example"])),
            (Column("answered", flexible=True), _answered),
            (Column("cost", right=True, optional=1), _spent),
        ],
        shown,
    )
    if len(shown) < len(examples):
        note(f"the worst {len(shown)} of {plural(len(examples), 'example')}; all with -n 0")


def _print_predictor(name: str, predictor: Any) -> None:
    printer = console()
    demos = plural(len(predictor["demos"]), "demo") if predictor["demos"] else "no demos"
    printer.print()
    line = text(one_line(name, 60), "magenta")
    line.append_text(text(f"  {demos}", "dim"))
    printer.print(line)
    printer.print(text(str(predictor["instructions"])), soft_wrap=True)


def _answered(row: Row) -> str | Text:
    answered = text(f"✗ {row['error_type']}", "red") if row["error_type"] else _fields(row["prediction"])
    return answered if row["feedback"] is None else f"{answered} ({one_line(row['feedback'], 200)})"


def _fields(value: Any) -> str:
    """The fields of an example or a prediction, on one line; the last first, for it is the answer."""
    if not isinstance(value, dict):
        return one_line(str(value), 200) if value is not None else ""
    return one_line(" · ".join(f"{name}: {item}" for name, item in reversed(value.items())), 200)
