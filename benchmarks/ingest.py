"""What the store takes: rows a second from 16 threads, what a caller waits, large rows, and the way to Parquet.

Rows are those the recorder makes of calls whose texts are docstrings of the installed packages, so they compress as prose
does. Throughput stands beside one thread that writes the same bytes to one file; both alternate. The compaction runs in a
process of its own, and the CPU of an empty one is taken off; beside it stands DuckDB alone, which copies the same journals to one
Parquet file and checks, sorts, syncs and commits nothing. Promises: DESIGN section 9.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from _arms import Arm, measure
from journal import busy
from opentelemetry import trace

from lmtrace import LMOutput, LMRequest, LMResponse, LMUsage, _recorder
from lmtrace._data import LMTextPart
from lmtrace._exporter import Record
from lmtrace._schema import CALL_COLUMNS
from lmtrace._settings import Settings
from lmtrace._traced import TracedBackend
from lmtrace_exporters import InMemoryExporter, StoreExporter
from lmtrace_exporters._line import frame
from lmtrace_exporters._rowsql import quote, quote_name

DOCSTRING = re.compile(r'"""(.{200,}?)"""', re.DOTALL)
SYSTEM = "Answer in one paragraph, in the words of the manual, and say which sentence of it you rely on. " * 6


class Collector(InMemoryExporter):
    """Keeps records as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Record] = []

    def export(self, records: object) -> None:
        self.records += records  # type: ignore[operator]


class Teller:
    """A provider that answers with the next text."""

    def __init__(self, texts: Iterator[str], size: int) -> None:
        self._texts, self._size = texts, size

    def complete(self, request: LMRequest, secrets: object) -> LMResponse:
        text = part(self._texts, self._size)
        return LMResponse(
            model="gpt-4o-mini-2024-07-18",
            outputs=[LMOutput(parts=[LMTextPart(text)], finish_reason="stop")],
            usage=LMUsage(input_tokens=900, output_tokens=180, total_tokens=1080, details={"prompt_tokens": 900}),
            cost=0.000243,
            response_id="chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz",
            metadata={"cost_source": "litellm"},
        )


def prose() -> Iterator[str]:
    """Docstrings of everything installed, again and again; the second round is megabytes from the first."""
    while True:
        for folder in (sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")):
            for path in sorted(Path(folder).rglob("*.py")):
                yield from DOCSTRING.findall(path.read_text(errors="ignore"))


def part(texts: Iterator[str], size: int) -> str:
    text = ""
    while len(text) < size:
        text += next(texts)
    return text[:size]


def make_records(count: int, size: int) -> list[Record]:
    """Rows of about `size` bytes, made by the recorder."""
    texts, collector = prose(), Collector()
    answer = min(600, size // 8)
    before = _recorder.replace(_recorder.Recorder(Settings(), tracer=trace.NoOpTracer(), exporters=[collector]))
    traced = TracedBackend(Teller(texts, answer))
    asked = max(100, size - 2 * answer - 1_900)
    for _ in range(count):
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": part(texts, asked)}]
        traced.call(LMRequest(model="openai/gpt-4o-mini", messages=messages, kwargs={"temperature": 0.7}), {})
    _recorder.replace(before)
    return collector.records


def rate(records: list[Record], threads: int, work: Callable[[list[Record]], object]) -> float:
    """Records a second with so many threads working on their shares."""
    start = threading.Barrier(threads + 1)

    def run(share: list[Record]) -> None:
        start.wait()
        work(share)

    workers = [threading.Thread(target=run, args=(records[number::threads],)) for number in range(threads)]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    return len(records) / (time.perf_counter() - began)


def throughput(folder: Path, records: list[Record], rounds: int) -> tuple[float, float]:
    """Medians of the store with 16 threads and of a raw sequential write."""
    lines = [frame(record.line) for record in records]
    stored, raw = [], []
    for number in range(rounds):
        store = StoreExporter(folder / f"rate-{number}", compaction=False)
        store.export(records[:1])

        def export(share: list[Record], store: StoreExporter = store) -> None:
            for record in share:
                store.export([record])

        stored.append(rate(records, 16, export))
        store.shutdown()
        fd = os.open(folder / f"raw-{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        began = time.perf_counter()
        for line in lines:
            os.write(fd, line)
        raw.append(len(lines) / (time.perf_counter() - began))
        os.close(fd)
    return statistics.median(stored), statistics.median(raw)


def latency(folder: Path, record: Record, threads: int, rounds: int) -> Arm:
    """One caller beside so many CPU-bound threads."""
    store = StoreExporter(folder / f"latency-{len(record.line)}-{threads}", compaction=False)
    arm = Arm("export", lambda: store.export([record]))
    with busy(threads):
        measure([arm], rounds=rounds, block=50, pause=0.0005 if threads else 0.0)
    store.shutdown()
    return arm


def compaction(folder: Path, records: list[Record], rounds: int) -> tuple[float, float, float]:
    """CPU microseconds for each row from journal to Parquet, here and by DuckDB alone; Parquet's share of the journals' bytes."""
    for name, rows in (("empty", records[:1]), ("full", records)):
        store = StoreExporter(folder / name, compaction=False)
        for row in rows:
            store.export([row])
        store.shutdown()
    ways = {"compacted": ["-m", "lmtrace_exporters._compaction"], "copied": ["-c", BARE_COPY, bare_query()]}
    costs: dict[str, list[float]] = {f"{way} {name}": [] for way in ways for name in ("empty", "full")}
    for number in range(rounds):
        for way, arguments in ways.items():
            for name in ("empty", "full"):
                store_copy = shutil.copytree(folder / name, folder / f"{way}-{name}-{number}")
                costs[f"{way} {name}"].append(cpu_seconds([sys.executable, *arguments, str(store_copy)]))
    ours, bare = ((min(costs[f"{way} full"]) - min(costs[f"{way} empty"])) / len(records) * 1e6 for way in ways)
    written = size_of(folder / "compacted-full-0" / "segments", "*.parquet")
    return ours, bare, written / size_of(folder / "full" / "journal", "*.jsonl")


BARE_COPY = (
    "import duckdb, os, sys; os.chdir(sys.argv[2]); duckdb.execute('SET threads = 1'); duckdb.execute(sys.argv[1])"
)


def bare_query() -> str:
    """The least that brings a row's columns from a journal to Parquet."""
    columns = ", ".join(f"{quote_name(name)}: {quote(type_)}" for name, type_ in CALL_COLUMNS.items())
    source = f"read_json('journal/*.jsonl', format='newline_delimited', columns={{{columns}}})"
    return f"COPY (FROM {source}) TO 'all.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3)"


def cpu_seconds(command: list[str]) -> float:
    """CPU of a process; the least of some rounds is what neighbours disturbed least."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def size_of(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern))


def main() -> None:
    """Measure everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where to write; default: the temporary folder")
    options = parser.parse_args()
    records, (large,) = make_records(options.rows, 5_000), make_records(1, 200_000)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        stored, raw = throughput(folder, records, options.rounds)
        alone, beside = (latency(folder, records[0], threads, 4 * options.rounds) for threads in (0, 4))
        big = latency(folder, large, 0, options.rounds)
        cpu, bare, share = compaction(folder, records, options.rounds)
    mean = statistics.mean(len(record.line) for record in records)
    print(f"\n{options.rows} rows of {mean:.0f} bytes, one of {len(large.line)}\n")
    print("| | measured | aim |\n|---|---|---|")
    print(f"| rows a second, 16 threads | {stored:,.0f} | 50,000 |")
    print(f"| raw sequential write of the same bytes, rows a second | {raw:,.0f} | – |")
    print(f"| ratio to it | {stored / raw:.2f} | – |")
    print(f"| one caller, p50 / p99 µs | {alone.p50:.1f} / {alone.p99:.0f} | – |")
    print(f"| the same beside 4 CPU-bound threads | {beside.p50:.1f} / {beside.p99:.0f} | p99 1,000 |")
    print(f"| a row of {len(large.line) // 1000} KB, p50 µs | {big.p50:.0f} | 500 |")
    print(f"| CPU from journal to Parquet, µs a row | {cpu:.1f} | 40 |")
    print(f"| the same by DuckDB alone, zstd-3 | {bare:.1f} | – |")
    print(f"| ratio to it | {cpu / bare:.2f} | – |")
    print(f"| Parquet's share of the journals' bytes | {share:.2f} | 0.25 |")


if __name__ == "__main__":
    main()
