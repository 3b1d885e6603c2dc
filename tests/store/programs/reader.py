"""Query a store again and again until stdin is closed; print the number of queries, or fail on a wrong answer."""

import select
import sys

from lmtrace_exporters import open_history

queries = before = 0
with open_history(sys.argv[1]) as history:
    while True:
        rows, unique = history.sql("SELECT count(*), count(DISTINCT uuid) FROM calls").fetchall()[0]
        assert rows == unique, f"{rows - unique} rows twice"
        assert rows >= before, f"{before} rows became {rows}"
        assert not history.problems, history.problems
        before, queries = rows, queries + 1
        if select.select([sys.stdin], [], [], 0.01)[0]:
            break
sys.stdout.write(f"{queries} {before}\n")
