"""What people call a call, a run, a rollout or a candidate: ids and parts of them, names, ``last``, ``last~1``, ``…@rollout=2``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtrace._cli._candidates import candidate_of, title
from lmtrace._cli._fail import NotFoundFailure, UsageFailure, nearest
from lmtrace._cli._store import Row, known_values, rows
from lmtrace._cli._text import SHORTEST, moment, runs_back, short_id

if TYPE_CHECKING:
    from lmtrace_exporters import History

_ROLLOUT = re.compile(r"(.+)@(?:rollout=)?(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Referred:
    """The calls that a reference names."""

    name: str
    """What to call them."""
    calls: list[Row]
    """In the order they began."""


def resolve(history: History, reference: str) -> Referred:
    """Return the calls of a run, one call, those of either with one rollout id, or those of a candidate.

    Raises:
        Failure: nothing is called that, or several calls are.
    """
    found = _plain(history, reference) or _candidate(history, reference)
    if found is not None:
        return found
    match = _ROLLOUT.fullmatch(reference)
    whole = _plain(history, match[1]) if match else None
    if match is None or whole is None:
        runs = known_values(history, ("run_name", "run_id"))
        raise NotFoundFailure(f"no call or run {reference!r}{nearest(reference, runs)}; `lmtrace ls` lists them")
    return _rollout(history, whole, reference, match[2])


def _plain(history: History, reference: str) -> Referred | None:
    back = runs_back(reference)
    if back is not None:
        return _last_run(history, back, reference)
    if len(reference) >= SHORTEST:
        condition = "starts_with(uuid, ?) OR ends_with(uuid, ?) OR span_id = ?"
        found = rows(history, f"SELECT * FROM calls WHERE {condition} LIMIT 6", [reference] * 3)
        if len(found) > 1:
            some = ", ".join(f"{short_id(row['uuid'])} ({moment(row['timestamp'])})" for row in found[:5])
            raise UsageFailure(f"{reference!r} fits several calls: {some}")
        if found:
            return Referred(short_id(found[0]["uuid"]), found)
    for test in ("run_name = ?", "run_id = ?", "starts_with(run_id, ?)", "ends_with(run_id, ?)"):
        query = f"SELECT run_id FROM calls WHERE {test} ORDER BY timestamp DESC LIMIT 1"
        found = rows(history, query, [reference])
        if found and (test == "run_name = ?" or len(reference) >= SHORTEST):
            return _run(history, found[0]["run_id"])
    return None


def _candidate(history: History, reference: str) -> Referred | None:
    candidate = candidate_of(history, reference)
    if candidate is None:
        return None
    query = """
        SELECT calls.*, score FROM calls LEFT JOIN examples USING (example_id) WHERE calls.evaluation_id = ?
        ORDER BY calls.timestamp, calls.uuid"""
    return Referred(title(candidate), rows(history, query, [candidate["evaluation_id"]]))


def _last_run(history: History, back: int, reference: str) -> Referred:
    query = "SELECT run_id FROM calls WHERE run_id IS NOT NULL GROUP BY 1 ORDER BY min(timestamp) DESC LIMIT 1 OFFSET ?"
    found = rows(history, query, [back])
    if not found:
        raise NotFoundFailure(f"there is no run {reference!r}: not so many runs are in the store")
    return _run(history, found[0]["run_id"])


def _run(history: History, run_id: str) -> Referred:
    found = rows(history, "SELECT * FROM calls WHERE run_id = ? ORDER BY timestamp, uuid", [run_id])
    name = found[0]["run_name"]
    return Referred(f"{name} {short_id(run_id)}" if name else short_id(run_id), found)


def _rollout(history: History, whole: Referred, reference: str, rollout: str) -> Referred:
    found = [row for row in whole.calls if row["rollout_id"] == rollout]
    if not found and len(whole.calls) == 1:  # the same request, asked with that rollout id
        query = "SELECT * FROM calls WHERE request_key = ? AND rollout_id = ? ORDER BY timestamp DESC LIMIT 1"
        found = rows(history, query, [whole.calls[0]["request_key"], rollout])
    if not found:
        known = sorted({str(row["rollout_id"]) for row in _siblings(history, whole)})
        raise NotFoundFailure(f"{reference!r}: there is no rollout {rollout!r}, but {', '.join(known)}")
    return Referred(f"{whole.name} rollout {rollout}", found)


def _siblings(history: History, whole: Referred) -> list[Row]:
    if len(whole.calls) > 1:
        return whole.calls
    return rows(history, "SELECT rollout_id FROM calls WHERE request_key = ?", [whole.calls[0]["request_key"]])
