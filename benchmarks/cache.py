"""What an answer from the cache costs: a look-up among ten million, and a whole call of `lmtrace.LM`.

The index is filled in bulk, in the order of its keys, with answers of one sentence; then a process of its own opens it with
nothing of it in memory and looks keys up at random. Keys that are there and keys that are not take turns with a dictionary,
for comparison. The calls have a backend that answers at once: what is left is what lmtrace does.

    python benchmarks/cache.py --entries 1000000 --folder /somewhere/with/room
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from _arms import Arm, measure

import lmtrace
from lmtrace import LMOutput, LMRequest, LMResponse, LMTextPart, LMUsage, _caching
from lmtrace_replay._cached import sealed
from lmtrace_replay._index import _CREATE, _PUT, Index
from lmtrace_replay._open_cache import INDEX_NAME

ANSWER = (
    b'{"response":{"outputs":[{"parts":[{"type":"text","text":"It is Paris, on the Seine."}],"finish_reason":"stop"}],'
    b'"cache_hit":false,"model":"m-1","usage":{"input_tokens":15,"output_tokens":7},"cost":0.00001}}'
)


def key(number: int, entries: int) -> bytes:
    """The `number`-th of `entries` keys, spread evenly; those in between are not there."""
    return (number * (2**64 // entries)).to_bytes(8, "big") + hashlib.sha256(b"%d" % number).digest()[:24]


def build(path: Path, entries: int) -> float:
    """Fill an index; seconds that took."""
    started = time.perf_counter()
    value = sealed(ANSWER)
    db = sqlite3.connect(path, isolation_level=None)
    for setting in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -100000"):
        db.execute(f"PRAGMA {setting}")
    db.execute(_CREATE)
    db.execute("BEGIN")
    db.executemany(_PUT, ((number + 1, key(number, entries), value) for number in range(entries)))
    db.execute("COMMIT")
    db.execute("PRAGMA journal_mode = WAL")
    db.close()
    return time.perf_counter() - started


# --- in a process of its own ----------------------------------------------------------------------------------------


def evict(path: Path) -> None:
    """Have the operating system forget a file's content."""
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def resident() -> float:
    """Megabytes of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def look_up(path: Path, entries: int) -> None:
    """Print what the look-ups of a fresh process cost."""
    evict(path)
    before = resident()
    numbers = random.Random(7)
    index = Index(path, max_bytes=sys.maxsize)
    started = time.perf_counter_ns()
    assert index.get(key(entries // 3, entries)) is not None
    opened = (time.perf_counter_ns() - started) / 1e6
    first = []
    for _ in range(200):
        wanted = key(numbers.randrange(entries), entries)
        started = time.perf_counter_ns()
        index.get(wanted)
        first.append((time.perf_counter_ns() - started) / 1000)
    few = {key(number, entries): ANSWER for number in range(1_000)}
    there = iter([key(numbers.randrange(entries), entries) for _ in range(200_000)])
    missing = iter([os.urandom(32) for _ in range(200_000)])
    at_hand = iter(list(few) * 200)
    arms = [
        Arm("an entry that is there", lambda: index.get(next(there))),
        Arm("a key that is not there", lambda: index.get(next(missing))),
        Arm("a dictionary of 1,000, for comparison", lambda: few.get(next(at_hand))),
    ]
    with path.open("rb") as file:  # back into the operating system's memory, where a database in use is
        while file.read(1 << 22):
            pass
    measure(arms, rounds=200, block=100)
    after = resident()
    print("| | p50 µs | p99 µs |\n|---|---|---|")
    for arm in arms:
        print(f"| {arm.name} | {arm.p50:.1f} | {arm.p99:.1f} |")
    print(f"| the first 200 after the file was evicted from memory | {sorted(first)[100]:.0f} | {max(first):.0f} |\n")
    print(
        f"cold open with its first look-up: {opened:.1f} ms; memory of the process: {after:.0f} MB, {before:.0f} before\n"
    )
    index.close()


# --- whole calls ----------------------------------------------------------------------------------------------------


class Instant:
    """Answers at once, always the same."""

    cache_name = "instant"

    def __init__(self, text: str) -> None:
        usage = LMUsage(input_tokens=15, output_tokens=7, total_tokens=22, details={"prompt_tokens": 15})
        output = LMOutput(parts=(LMTextPart(text),), finish_reason="stop")
        self.response = LMResponse(model="m-1", outputs=(output,), usage=usage, cost=0.00001)

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        return self.response


def calls(store: Path, size: int) -> Iterator[Arm]:
    """A call without the cache, a hit in memory and a hit in the index, with prompts and answers of `size` bytes."""
    lmtrace.configure(store=store)
    lm = lmtrace.LM("mine/instant", backend=Instant("x" * size))
    messages = [{"role": "user", "content": "y" * size}]
    lm(messages=messages)
    cache: Any = _caching.current()
    (entry,) = list(cache.memory._answers)[-1:]
    yield Arm("without the cache", lambda: lm(messages=messages, cache=False))
    yield Arm("hit in memory", lambda: lm(messages=messages))

    def from_index() -> object:
        cache.memory.discard(entry)
        return lm(messages=messages)

    yield Arm("hit in the index", from_index)
    yield Arm("memory alone", lambda: cache.find(entry).response())

    def index_alone() -> object:
        cache.memory.discard(entry)
        return cache.find(entry).response()

    yield Arm("index alone", index_alone)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=10_000_000, help="entries in the index; 10 million are 3.5 GB")
    parser.add_argument("--folder", type=Path, help="where the index is built, and kept if it is there already")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--look-up", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.look_up:
        look_up(given.look_up, given.entries)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        path = folder / INDEX_NAME
        if not path.exists():
            print(f"filled in {build(path, given.entries):.0f} s", end=": ")
        print(f"{given.entries:,} entries, {path.stat().st_size / 1e9:.2f} GB\n")
        command = [sys.executable, __file__, "--entries", str(given.entries), "--look-up", str(path)]
        subprocess.run(command, check=True)
        for size in (700, 5_000):
            arms = list(calls(Path(temporary) / f"store-{size}", size))
            measure(arms, rounds=given.rounds)
            print(f"| {size} bytes | p50 µs | p99 µs |\n|---|---|---|")
            print("\n".join(f"| {arm.name} | {arm.p50:.1f} | {arm.p99:.1f} |" for arm in arms), end="\n\n")
        lmtrace.shutdown()


if __name__ == "__main__":
    main()
