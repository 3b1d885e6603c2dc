"""What a question to a large history costs, beside the same question put to its plain Parquet files.

The store has 30 days of calls of about 1.7 KB, one segment for each day as after daily merging, and a live journal of the last
minutes. Prompts are pieces of the installed packages' docstrings, each piece once in 60,000 rows, so they compress as prose does.
Commands are timed as whole processes; the floor is DuckDB's `read_parquet` in a process that is up already.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import duckdb
import orjson
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent))

from ingest import part, prose

from lmtrace._exporter import Record
from lmtrace_exporters import History, StoreExporter, backup, open_history
from lmtrace_exporters._batch import Group
from lmtrace_exporters._catalog import add_segments, change
from lmtrace_exporters._duck import connect
from lmtrace_exporters._filters import refresh_filters
from lmtrace_exporters._layout import Layout
from lmtrace_exporters._parquet import Plan, new_path, write_segment
from lmtrace_exporters._rowsql import empty_sql, union_sql

DAYS = 30
LIVE_ROWS = 5_000
PIECES = 60_000
PIECE = 840
"""Characters of a prompt."""
RARE = "quetzalcoatlus"
"""A word that ten calls hold."""

_ROWS = f"""
WITH texts AS (
    SELECT i, $day::TIMESTAMPTZ + to_microseconds((i - $first) * $gap) AS moment,
        text || CASE WHEN i % 100003 = 7 THEN ' {RARE}' ELSE '' END AS text
    FROM range($first, $last) t(i) JOIN pieces ON pieces.number = i % {PIECES}
), made AS (
    SELECT *, ['gpt-4o-mini', 'gpt-4o', 'claude-sonnet-4', 'llama3', 'gemini-2.0-flash'][1 + (hash(i, 1) % 5)::INTEGER] AS name,
        (40 + hash(i, 2) % 400)::BIGINT AS asked, (5 + hash(i, 3) % 200)::BIGINT AS said, 'The answer is ' || left(text, 160) AS answer
    FROM texts
)
SELECT uuid()::VARCHAR AS uuid, moment AS timestamp, 100.0 + hash(i, 4) % 3000 AS duration_ms, md5(i::VARCHAR) AS trace_id,
    left(md5((i + 1)::VARCHAR), 16) AS span_id, ('run-' || (i // 5000)) AS run_id, ('nightly-' || (i // 5000)) AS run_name,
    ('Program' || i % 7 || '.predict') AS scope, 'chat' AS operation, 'chat' AS model_type, 'openai' AS provider,
    'openai/' || name AS model, name AS response_model,
    json_array(json_object('role', 'system', 'content', 'You are a helpful assistant number ' || i % 50),
        json_object('role', 'user', 'content', text)) AS messages,
    json_object('temperature', 0.7, 'rollout_id', i % 4) AS kwargs, (i % 4)::VARCHAR AS rollout_id, 0.7 AS temperature,
    json_array(answer) AS outputs, answer AS output_text, ['stop'] AS finish_reasons,
    json_object('model', name, 'outputs', json_array(json_object('parts', json_array(json_object('text', answer))))) AS response,
    asked AS input_tokens, said AS output_tokens, asked + said AS total_tokens,
    asked * 1.5e-7 + said * 6e-7 AS cost, 'litellm' AS cost_source, asked * 1.5e-7 + said * 6e-7 AS billed_cost,
    false AS cache_hit, 'provider' AS served_by, 'lm1:' || sha256((i // 4)::VARCHAR) AS request_key, 1 AS attempts,
    false AS streamed, 1 AS schema_version, '0.1.0' AS lmtrace_version, 'here' AS host, 4121 AS pid, 'MainThread' AS thread
FROM made ORDER BY i"""


def build(root: Path, rows: int) -> None:
    """Write a store as a month of use leaves it."""
    exporter = StoreExporter(root, compaction=False, roll_seconds=3600)
    exporter.export([Record("call", orjson.dumps(_live(number))) for number in range(LIVE_ROWS)])
    exporter.shutdown()
    layout, each = Layout(root), rows // DAYS
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with connect() as connection:
        texts = prose()
        pieces = {"number": range(PIECES), "text": [part(texts, PIECE) for _ in range(PIECES)]}
        connection.from_arrow(pa.table(pieces)).create("pieces")
        for number in range(DAYS):
            day = today - timedelta(days=DAYS - number)
            _write_day(connection, layout, day, number * each, each)


def _write_day(connection: duckdb.DuckDBPyConnection, layout: Layout, day: datetime, first: int, rows: int) -> None:
    gap = 86_000_000_000 // rows
    query = _ROWS.replace("$day", f"'{day.isoformat()}'").replace("$gap", str(gap))
    query = query.replace("$first", str(first)).replace("$last", str(first + rows))
    begin = int(day.timestamp() * 1_000_000)
    path = new_path("call", day.date().isoformat())
    plan = Plan(
        path, union_sql([empty_sql("call"), query]), Group(rows, begin, begin + (rows - 1) * gap), {"files": [path]}
    )
    segment = write_segment(connection, layout, plan)
    with change(layout) as db:
        add_segments(db, [segment])


def _live(number: int) -> dict[str, object]:
    text = " ".join(uuid4().hex[:9] for _ in range(80))
    return {
        "kind": "call", "uuid": str(uuid4()), "timestamp": (datetime.now(UTC) - timedelta(milliseconds=LIVE_ROWS - number)).isoformat(),
        "duration_ms": 120.0, "model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": text}],
        "outputs": [f"The answer is {text[:160]}"], "input_tokens": 100, "output_tokens": 20, "cost": 1e-5, "billed_cost": 1e-5,
        "served_by": "provider", "schema_version": 1,
    }  # fmt: skip


QUESTIONS = {
    "cost per model per day": (
        "SELECT timestamp::DATE, model, sum(cost) FROM calls GROUP BY ALL",
        "SELECT timestamp::DATE, model, sum(cost) FROM {files} GROUP BY ALL",
        0.2,
    ),
    "rare word, nowhere else": (
        None,
        f"SELECT uuid, timestamp FROM {{files}} WHERE contains(messages, '{RARE}') OR contains(outputs, '{RARE}') LIMIT 20",
        1.0,
    ),
    "the same without filters": (
        None,
        f"SELECT uuid, timestamp FROM {{files}} WHERE regexp_matches(messages, '{RARE}', 'il') OR regexp_matches(outputs, '{RARE}', 'il') LIMIT 20",
        None,
    ),
    "newest 100 calls": (None, "SELECT * FROM {files} ORDER BY timestamp DESC LIMIT 100", 0.1),
    "cost of one day per model": (
        "SELECT model, sum(cost) FROM calls GROUP BY ALL",
        "SELECT model, sum(cost) FROM {files} WHERE timestamp >= '{day}' AND timestamp < '{day}'::DATE + 1 GROUP BY ALL",
        None,
    ),
}
"""Each question: in SQL of the history (None for the method that answers it), in DuckDB's on the bare files, and the promise."""


def compare(root: Path, rounds: int) -> None:
    """Print the time of each question, beside the floor, both measured in turn."""
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=10)
    files = f"read_parquet('{root}/segments/**/*.parquet')"
    with (
        open_history(root) as history,
        without_filters(root) as bare,
        duckdb.connect() as plain,
        open_history(root, since=day, until=day + timedelta(days=1)) as one_day,
    ):
        methods: dict[str, Callable[[], object]] = {
            "rare word, nowhere else": lambda: history.search(RARE, columns="uuid, timestamp").rows,
            "the same without filters": lambda: bare.search(RARE, columns="uuid, timestamp").rows,
            "newest 100 calls": lambda: history.recent(100),
            "cost of one day per model": lambda: one_day.fetch(QUESTIONS["cost of one day per model"][0] or "").rows,
        }
        print(
            f"{'':32}{'store s':>9}{'CPU s':>8}{'bare files s':>14}{'CPU s':>8}{'ratio':>7}{'CPU ratio':>11}{'promise':>9}"
        )
        for name, (query, floor, promise) in QUESTIONS.items():
            ask = methods.get(name) or (lambda query=query: history.fetch(query).rows)
            asked = floor.format(files=files, day=day.date())
            ours, theirs = _alternate(ask, lambda asked=asked: plain.execute(asked).fetchall(), rounds)
            ratios = f"{ours[0] / theirs[0]:>7.2f}{ours[1] / theirs[1]:>11.2f}"
            figures = f"{ours[0]:>9.3f}{ours[1]:>8.2f}{theirs[0]:>14.3f}{theirs[1]:>8.2f}"
            print(f"{name:32}{figures}{ratios}{promise or '-':>9}")


@contextmanager
def without_filters(root: Path) -> Iterator[History]:
    """A history of the same files, the filters of the segments aside."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "store"
        backup(root, copy)
        shutil.rmtree(copy / "filters")
        with open_history(copy) as history:
            yield history


def filter_cost(root: Path, rows: int) -> None:
    """Make the filters as the compaction after merging does, and print what that costs."""
    before = time.process_time()
    made = refresh_filters(Layout(root))
    if made:
        print(f"{made} filters, {(time.process_time() - before) / rows * 1e6:.1f} µs of CPU a row")


def _alternate(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[tuple[float, float], ...]:
    """The best wall and processor time of each, of some rounds after one that warms the cache."""
    times: tuple[list[tuple[float, float]], ...] = ([], [])
    for _ in range(rounds + 1):
        for ask, found in zip((ours, theirs), times, strict=True):
            wall, processor = time.perf_counter(), time.process_time()
            ask()
            found.append((time.perf_counter() - wall, time.process_time() - processor))
    return tuple((min(wall for wall, _ in found[1:]), min(cpu for _, cpu in found[1:])) for found in times)


COMMANDS = {
    "lmtrace ls": (["ls"], 1.0),
    "lmtrace search, found today": (["search", "answer is"], 1.0),
    "lmtrace search, rare word": (["search", RARE], 1.0),
    "lmtrace cost --by model": (["cost"], None),
    "lmtrace cost --by day": (["cost", "--by", "day"], None),
}


def commands(root: Path, rounds: int) -> None:
    """Print the time of whole commands, beside a process that only imports DuckDB."""
    print(f"\n{'':32}{'median s':>9}{'CPU s':>8}{'promise':>9}")
    label = "python -c 'import duckdb'"
    print(f"{label:32}{_process([sys.executable, '-c', 'import duckdb'], rounds)}{'-':>9}")
    for name, (words, promise) in COMMANDS.items():
        figures = _process([sys.executable, "-m", "lmtrace", *words, "--store", str(root)], rounds)
        print(f"{name:32}{figures}{promise or '-':>9}")


def _process(command: list[str], rounds: int) -> str:
    wall, processor = [], []
    for _ in range(rounds):
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall.append(time.perf_counter() - begun)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return f"{statistics.median(wall):>9.2f}{min(processor):>8.2f}"


def main() -> None:
    """Build the store, or take one that is there, and ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", type=Path, help="keep the store there, and use it if it is there already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root: Path = options.store or Path(folder) / "store"
        if not (root / "store.json").exists():
            begun = time.perf_counter()
            build(root, options.rows)
            print(f"built {options.rows:,} rows in {time.perf_counter() - begun:.0f} s")
        filter_cost(root, options.rows)
        size = sum(path.stat().st_size for path in root.rglob("*.parquet"))
        noted = sum(path.stat().st_size for path in root.glob("filters/*"))
        print(f"{size / 1e6:.0f} MB of Parquet, {noted / 1e6:.1f} MB of filters, {LIVE_ROWS:,} rows in a journal\n")
        compare(root, options.rounds)
        commands(root, options.rounds)


if __name__ == "__main__":
    main()
