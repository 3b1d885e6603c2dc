"""Query the history again and again until stdin is closed; fail on any error, a row seen twice, or one that is gone."""

from __future__ import annotations

import select
import sys

import lmtrace

queries = before = 0
with lmtrace.history() as history:
    while True:
        rows, unique = history.sql("SELECT count(*), count(DISTINCT uuid) FROM calls").fetchall()[0]
        assert rows == unique, f"{rows - unique} rows twice"
        assert rows >= before, f"{before} rows became {rows}"
        assert not history.problems, history.problems
        assert len(history.recent(20)) == min(rows, 20) or rows < 20
        before, queries = rows, queries + 1
        if select.select([sys.stdin], [], [], 0.05)[0]:
            break
sys.stdout.write(f"{queries} {before}\n")
