"""The line that ends a recorded run: calls, errors, tokens, cost, time, and how to look closer."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from lmtrace._cli._filters import Filters
from lmtrace._cli._status import Processes
from lmtrace._cli._store import Row, opened, rows
from lmtrace._cli._text import count, duration, plural, short_id, total_money

_QUERY = """
    SELECT count(*) AS calls, count(*) FILTER (run_id = ?) AS direct, count(error_type) AS errors,
        sum(billed_cost) AS cost, count(*) FILTER (billed_cost IS NULL AND error_type IS NULL) AS unknown,
        sum(input_tokens) FILTER (served_by = 'provider') AS input_tokens,
        sum(output_tokens) FILTER (served_by = 'provider') AS output_tokens
    FROM calls WHERE run_id = ? OR pid IN (SELECT unnest(?::INTEGER[]))"""
"""A program may open runs of its own: its processes' calls count wherever they belong."""


def summary(store: Path | None, run_id: str, processes: Processes, started: float, elapsed: float) -> tuple[str, bool]:
    """The line, and whether it is not a warning.

    Raises:
        Failure: the store cannot be read.
    """
    if store is None:
        return "lmtrace: the store is off, so nothing was recorded (LMTRACE_STORE=off)", False
    if not (store / "store.json").exists():
        return f"lmtrace: 0 calls recorded: {processes.why_nothing()}", False
    with opened(store, Filters(since=datetime.fromtimestamp(started, UTC))) as history:
        row = rows(history, _QUERY, [run_id, run_id, processes.pids])[0]
    if not row["calls"]:
        return f"lmtrace: 0 calls recorded: {processes.why_nothing()}", False
    failed = f" · some rows are missing: {'; '.join(processes.all('failed'))}" if processes.all("failed") else ""
    look = f"lmtrace show {short_id(run_id)}" if row["direct"] == row["calls"] else "lmtrace ls --runs"
    return f"lmtrace  {_figures(row)} · {duration(elapsed * 1000)}   see: {look}{failed}", True


def _figures(row: Row) -> str:
    parts = [plural(row["calls"], "call")] + ([plural(row["errors"], "error")] if row["errors"] else [])
    parts.append(f"{count(row['input_tokens'])} in / {count(row['output_tokens'])} out")
    return " · ".join([*parts, total_money(row["cost"], row["unknown"])])
