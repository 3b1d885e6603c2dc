"""``lmtrace diff A B``: what two runs, calls or rollouts asked and were answered, word by word, and what that cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmtrace._cli._compare import FIGURES, Change, Pair, compare
from lmtrace._cli._filters import json_option, limit_option, store_option
from lmtrace._cli._print import Column, console, note, print_json, print_table, text
from lmtrace._cli._reference import Referred, resolve
from lmtrace._cli._rows import asked, short_model
from lmtrace._cli._store import Row, flushed, opened
from lmtrace._cli._text import count, duration, money, one_line, plural, short_id

if TYPE_CHECKING:
    from rich.text import Text

_STYLES = {"=": "", "-": "red strike", "+": "green"}
_MARKS = {"=": ("", ""), "-": ("[-", "-]"), "+": ("{+", "+}")}
AROUND = 80
"""Characters of an equal stretch shown on each side of a change."""

LEAST_SHARE = 0.005
LIMIT = 20

EXAMPLES = """
    \b
    lmtrace diff last~1 last              the last two runs
    lmtrace diff rag-v1 rag-v2 --stat     two runs by name, figures only
    lmtrace diff 9c21a0f4 77b1e3d2        two calls
    lmtrace diff 9c21a0f4@0 9c21a0f4@1    two rollouts of one request
    lmtrace diff mipro#3 mipro#7          two candidates of a run
"""


@click.command("diff", epilog=EXAMPLES)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--stat", is_flag=True, help="Figures only, no texts.")
@limit_option(LIMIT, "calls with their texts")
@json_option
@store_option
@click.pass_context
def command(
    context: click.Context, *, a: str, b: str, stat: bool, limit: int, as_json: bool, store: Path | None
) -> None:
    """Compare two runs, calls, candidates, or rollouts of a request; each is an id or a part of one, a name, or last~N.

    Calls of DSPy are compared by instructions, demos and fields.

    The exit code is 1 when they asked or were answered something different.
    """
    with opened(store) as history:
        left, right = resolve(history, a), resolve(history, b)
    pairs = compare(left.calls, right.calls)
    if as_json:
        print_json(_lines(left, right, pairs))
    else:
        _print(left, right, pairs, 0 if stat else limit or len(pairs))
    context.exit(1 if any(pair.state != "same" for pair in pairs) else 0)


def show_diff(run_id: str, other: str) -> None:
    """Print how a run of this process differs from another run; everything recorded is flushed first.

    Raises:
        Failure: the store is off or cannot be read, or `other` names nothing in it.
    """
    with flushed() as history:
        left, right = resolve(history, other), resolve(history, run_id)
    pairs = compare(left.calls, right.calls)
    _print(left, right, pairs, LIMIT)


def _print(left: Referred, right: Referred, pairs: list[Pair], limit: int) -> None:
    _print_totals(left, right)
    states = [pair.state for pair in pairs]
    found = {state: states.count(state) for state in ("same", "changed", "only A", "only B")}
    click.echo("\n" + " · ".join(f"{number:,} {state}" for state, number in found.items() if number))
    different = [pair for pair in pairs if pair.state != "same"]
    for pair in different[:limit]:
        _print_pair(pair)
    if limit and len(different) > limit:
        note(f"{limit} of {plural(len(different), 'different call')}; all with -n 0")


def _print_totals(left: Referred, right: Referred) -> None:
    before, after = _totals(left.calls), _totals(right.calls)
    for label, side in (("A", left), ("B", right)):  # above the table: names are long
        console().print(text(f"{label}  {one_line(side.name, 160)}", "bold"), soft_wrap=True)
    columns = [Column(""), Column("A", right=True), Column("B", right=True), Column("Δ", right=True)]
    lines = []
    for name, label, show in (
        ("calls", "calls", lambda number: f"{number:,}"),
        ("errors", "errors", lambda number: f"{number:,}"),
        ("cost", "cost", money),
        ("input_tokens", "tokens in", count),
        ("output_tokens", "tokens out", count),
        ("duration_ms", "latency, sum", duration),
    ):
        lines.append([label, show(before[name]), show(after[name]), _delta(before[name], after[name], show)])
    print_table(columns, lines)


def _totals(calls: Sequence[Row]) -> dict[str, Any]:
    """Sums of what is known; None when nothing is."""
    sums = {name: [row[name] for row in calls if row[name] is not None] for name in FIGURES}
    figures = {name: sum(found) if found else None for name, found in sums.items()}
    return {"calls": len(calls), "errors": sum(row["error_type"] is not None for row in calls), **figures}


def _delta(before: Any, after: Any, show: Any) -> str:
    if before is None or after is None:
        return "-"
    change = after - before
    if not change:
        return "="
    sign = "+" if change > 0 else "-"
    share = f" ({change / before:+.0%})" if before and abs(change / before) >= LEAST_SHARE else ""
    return f"{sign}{show(abs(change))}{share}"


def _print_pair(pair: Pair) -> None:
    printer = console()
    printer.print()
    printer.print(text(_title(pair), "bold"), soft_wrap=True)
    if pair.state != "changed":
        printer.print(text(f"  {one_line(asked(pair.either), 200)}"), soft_wrap=True)
    for where, said in pair.same:
        printer.print(text(f"  {where}: {one_line(said, 160)}", "dim"), soft_wrap=True)
    for change in pair.changes:
        line = text(f"  {change.where}: ", "dim")
        line.append_text(_coloured(change, marked=not printer.is_terminal or printer.no_color))
        printer.print(line, soft_wrap=True)


def _title(pair: Pair) -> str:
    row = pair.either
    names = " → ".join(short_id(side["uuid"]) for side in (pair.a, pair.b) if side is not None)
    place = [row["scope"], short_model(row["model"]), f"rollout {row['rollout_id']}" if row["rollout_id"] else None]
    scores = [side.get("score") for side in (pair.a, pair.b) if side is not None]
    figures = [f"score {' → '.join(f'{score:g}' for score in scores)}"] if scores and None not in scores else []
    if pair.state == "changed" and pair.a is not None and pair.b is not None:
        shows: tuple[tuple[str, str, Any], ...] = (("cost", "", money), ("duration_ms", "", duration))
        figures += [
            f"Δ{_delta(pair.a[name], pair.b[name], show)}{unit}" for name, unit, show in shows if pair.delta(name)
        ]
        spent = [pair.delta(name) for name in ("input_tokens", "output_tokens")]
        if any(spent):
            figures.append("Δtokens " + " / ".join("-" if number is None else f"{number:+,.0f}" for number in spent))
    return " · ".join([f"{pair.state}: {names}", *(one_line(item, 60) for item in place if item), *figures])


def _coloured(change: Change, *, marked: bool) -> Text:
    """The words, what is gone and new coloured, or marked where there are no colours; long equal stretches cut."""
    line = text("")
    last = len(change.pieces) - 1
    for index, (kind, said) in enumerate(change.pieces):
        begin, end = _MARKS[kind] if marked else ("", "")
        shown = _shortened(said, first=index == 0, last=index == last) if kind == "=" else said
        line.append_text(text(f"{begin}{shown}{end}", _STYLES[kind]))
    return line


def _shortened(said: str, *, first: bool, last: bool) -> str:
    head, tail = (0 if first else AROUND), (0 if last else AROUND)
    if len(said) <= head + tail + 1:
        return said
    return f"{said[:head]}…{said[len(said) - tail :]}"


def _lines(left: Referred, right: Referred, pairs: Iterable[Pair]) -> Iterable[dict[str, Any]]:
    before, after = _totals(left.calls), _totals(right.calls)
    change = {name: None if None in (before[name], after[name]) else after[name] - before[name] for name in before}
    yield {"row": "total", "a": before, "b": after, "delta": change}
    for pair in pairs:
        yield {
            "row": "pair",
            "state": pair.state,
            "a": pair.a["uuid"] if pair.a is not None else None,
            "b": pair.b["uuid"] if pair.b is not None else None,
            "scope": pair.either["scope"],
            "delta": {name: pair.delta(name) for name in FIGURES},
            "changes": [
                {"where": change.where, "words": [list(piece) for piece in change.pieces]} for change in pair.changes
            ],
        }
