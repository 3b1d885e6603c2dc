"""What a start costs: `import lmtrace` beside a bare Python, and commands over 100,000 rows of 5 KB beside plain DuckDB.

Every arm is a process of its own, from its start to its end. Rounds run the arms in a new random order.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

from lmtrace._exporter import Record
from lmtrace_exporters import StoreExporter

WORDS = [
    f"{first}{second}"
    for first in ["tea", "rain", "code", "wind", "north", "lamp"]
    for second in ["s", "ing", "ed", "er", "ish", "less"]
]
BATCH = 1_000
LIVE = 2_000
"""Rows that are still in journals when the store is read."""


def text(chance: random.Random, length: int) -> str:
    """Words that compress about as well as prose."""
    return " ".join(f"{chance.choice(WORDS)}{chance.randrange(1000)}" for _ in range(length // 9))


def records(count: int) -> Iterator[list[Record]]:
    """Calls of about 5 KB, one a second, in batches."""
    chance = random.Random(1)
    began = datetime(2026, 9, 1, tzinfo=UTC)
    for first in range(0, count, BATCH):
        yield [record(chance, number, began) for number in range(first, min(first + BATCH, count))]


def record(chance: random.Random, number: int, began: datetime) -> Record:
    """One call."""
    asked, answered = text(chance, 2_800), text(chance, 700)
    tokens = len(asked) // 4
    row = {
        "kind": "call",
        "uuid": f"019a0000-{number >> 16:04x}-7{number & 0xFFF:03x}-8000-{number:012x}",
        "timestamp": (began + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "duration_ms": chance.uniform(200, 4_000),
        "trace_id": f"{chance.getrandbits(128):032x}",
        "span_id": f"{chance.getrandbits(64):016x}",
        "run_id": f"run-{number // 5_000}",
        "run_name": f"experiment {number // 5_000}",
        "operation": "chat",
        "model_type": "chat",
        "provider": "openai",
        "model": chance.choice(["openai/gpt-4o-mini", "openai/gpt-4o"]),
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": asked}],
        "kwargs": {"temperature": 0.7},
        "temperature": 0.7,
        "outputs": [answered],
        "finish_reasons": ["stop"],
        "response": {"model": "gpt-4o-mini", "outputs": [{"parts": [{"type": "text", "text": answered}]}]},
        "input_tokens": tokens,
        "output_tokens": len(answered) // 4,
        "total_tokens": tokens + len(answered) // 4,
        "cost": tokens * 1.5e-7,
        "billed_cost": tokens * 1.5e-7,
        "served_by": "provider",
        "request_key": f"lm1:{chance.getrandbits(256):064x}",
        "schema_version": 1,
    }
    return Record("call", orjson.dumps(row))


def fill(store: Path, count: int) -> None:
    """A store whose newest rows are in a journal and all others in segments."""
    for part, is_last in ((count - LIVE, False), (count, True)):
        exporter = StoreExporter(store, compaction=False)
        for batch in records(count):
            first = orjson.loads(batch[0].line)["uuid"][-12:]
            if (int(first, 16) >= count - LIVE) == is_last and int(first, 16) < part:
                exporter.export(batch)
        exporter.shutdown()
        if not is_last:
            subprocess.run([sys.executable, "-m", "lmtrace", "compact", "--store", store], check=True)


def plain_query(store: Path) -> str:
    """The newest twenty calls without lmtrace."""
    return (
        'import duckdb; duckdb.sql("SELECT uuid, timestamp, model, messages, output_text FROM '
        f"read_parquet('{store}/segments/**/*.parquet') ORDER BY timestamp DESC LIMIT 20\").fetchall()"
    )


def arms(store: Path) -> dict[str, list[str]]:
    """Each arm's command."""
    python, lmtrace = [sys.executable, "-c"], [sys.executable, "-m", "lmtrace"]
    at = ["--store", str(store)]
    return {
        "python": [*python, "pass"],
        "import lmtrace": [*python, "import lmtrace"],
        "import duckdb": [*python, "import duckdb"],
        "read_parquet, newest 20": [*python, plain_query(store)],
        "lmtrace path": [*lmtrace, "path"],
        "lmtrace ls": [*lmtrace, "ls", *at],
        "lmtrace ls --model openai/gpt-4o": [*lmtrace, "ls", "--model", "openai/gpt-4o", *at],
        "lmtrace ls --runs": [*lmtrace, "ls", "--runs", *at],
        "lmtrace cost": [*lmtrace, "cost", *at],
        "lmtrace search": [*lmtrace, "search", "rainless77", *at],
    }


def measure(commands: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every arm in every round, the first round left out."""
    took: dict[str, list[float]] = {name: [] for name in commands}
    order = random.Random(1)
    for number in range(rounds + 1):
        for name in order.sample(list(commands), len(commands)):
            start = time.perf_counter()
            subprocess.run(commands[name], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if number:
                took[name].append((time.perf_counter() - start) * 1e3)
    return took


def main() -> None:
    """Fill a store, unless one is given, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--store", type=Path, help="keep the store here, and use the one that is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = (options.store or Path(folder) / "store").absolute()
        if not store.exists():
            fill(store, options.rows)
        os.chdir(folder)
        took = measure(arms(store), options.rounds)
    bare = statistics.median(took["python"])
    print(f"{options.rows:,} rows\n{'':36}{'median ms':>11}{'best ms':>10}{'above python':>14}")
    for name, times in took.items():
        print(f"{name:36}{statistics.median(times):>11.1f}{min(times):>10.1f}{statistics.median(times) - bare:>14.1f}")


if __name__ == "__main__":
    main()
