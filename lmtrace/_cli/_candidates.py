"""The candidates of a run: which run is meant, and the number each has in it.

A candidate's number is its place in the order in which the run evaluated; people say ``RUN#3``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lmtrace._cli._fail import NotFoundFailure, nearest
from lmtrace._cli._store import Row, rows
from lmtrace._cli._text import SHORTEST, plural, runs_back, short_id

if TYPE_CHECKING:
    from lmtrace_exporters import History

_NUMBERED = re.compile(r"(.*)#(\d+)", re.DOTALL)

HOW_TO_EVALUATE = "`dspy.Evaluate` makes them, by itself or in an optimiser, after `lmtrace.instrument()`"


def numbered(reference: str) -> tuple[str, int | None]:
    """``RUN#3`` as run and number."""
    match = _NUMBERED.fullmatch(reference)
    return (match[1] or "last", int(match[2])) if match else (reference, None)


def candidates_of(history: History, reference: str) -> list[Row]:
    """Return the candidates of a run in the order they were evaluated, each with its `place` from 1.

    Evaluations outside of any run count as one run.

    Raises:
        Failure: no run with candidates is called that.
    """
    return _all_of(history, _run(history, reference))


def _all_of(history: History, run_id: str | None) -> list[Row]:
    query = "SELECT * FROM candidates WHERE run_id IS NOT DISTINCT FROM ? ORDER BY timestamp, evaluation_id"
    return [{"place": place, **row} for place, row in enumerate(rows(history, query, [run_id]), 1)]


def candidate_of(history: History, reference: str) -> Row | None:
    """The candidate that ``RUN#3`` or an evaluation's id names, or None if it is neither.

    Raises:
        Failure: the run has not so many candidates.
    """
    run, place = numbered(reference)
    if place is None:
        found = rows(history, "SELECT run_id FROM candidates WHERE evaluation_id = ? LIMIT 1", [reference])
        same = (
            (row for row in _all_of(history, found[0]["run_id"]) if row["evaluation_id"] == reference) if found else ()
        )
        return next(iter(same), None)
    known = candidates_of(history, run)
    if not 1 <= place <= len(known):
        raise NotFoundFailure(f"{reference!r}: the run has {plural(len(known), 'candidate')}")
    return known[place - 1]


def title(row: Row) -> str:
    """What to call a candidate: its run, its number and its score."""
    score = "no score" if row["score"] is None else f"score {row['score']:g}"
    return f"{row['run_name'] or short_id(row['run_id'])}#{row['place']} {score}"


def _run(history: History, reference: str) -> str | None:
    known = rows(
        history,
        "SELECT run_id, any_value(run_name) AS run_name FROM candidates GROUP BY run_id ORDER BY max(timestamp) DESC",
    )
    if not known:
        raise NotFoundFailure(f"no candidates in the store; {HOW_TO_EVALUATE}")
    back = runs_back(reference)
    if back is not None and back < len(known):
        return _id(known[back])
    for row in known:
        if reference == row["run_name"] or (row["run_id"] and _fits(reference, row["run_id"])):
            return _id(row)
    names = [name for row in known for name in (row["run_name"], row["run_id"]) if name]
    raise NotFoundFailure(
        f"no run {reference!r} with candidates{nearest(reference, names)}; `lmtrace ls --runs` lists runs"
    )


def _id(row: Row) -> str | None:
    run_id: str | None = row["run_id"]
    return run_id


def _fits(reference: str, run_id: str) -> bool:
    return len(reference) >= SHORTEST and (run_id.startswith(reference) or run_id.endswith(reference))
