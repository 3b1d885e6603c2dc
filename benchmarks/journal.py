"""What a durable row costs its caller: the store's append beside a bare write of the same bytes, with busy threads too.

Rows of 5 KB, serialised already: checksum, lock, rolling and the system call are what is timed. Beside CPU-bound threads a
write that gives the GIL away waits for it afterwards; the store's does not. Arms alternate within each run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from _arms import Arm, measure

from lmtrace._exporter import Record
from lmtrace_exporters import StoreExporter
from lmtrace_exporters._line import frame

LINE = b'{"kind":"call","uuid":"u","messages":"' + b"x" * 4_960 + b'"}'
RECORDS = [Record("call", LINE)]


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Threads that hold the GIL whenever they can."""
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(1_000))

    threads = [threading.Thread(target=spin, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def compare(folder: Path, threads: int, rounds: int, block: int) -> None:
    """Print one table for a number of CPU-bound threads."""
    framed = frame(LINE)
    raw = os.open(folder / f"raw-{threads}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    stores = {
        level: StoreExporter(folder / f"{level}-{threads}", durability=level, compaction=False) for level in LEVELS
    }
    arms = [
        Arm("os.write of the same bytes", lambda: os.write(raw, framed)),
        *(Arm(f"store, {level}", lambda store=store: store.export(RECORDS)) for level, store in stores.items()),
    ]
    with busy(threads):
        measure(arms, rounds=rounds, block=block, pause=0.0005 if threads else 0.0)
    for store in stores.values():
        store.shutdown()
    os.close(raw)
    print(
        f"\n{len(framed)} bytes, {threads} CPU-bound threads\n{'':30}{'p50 µs':>9}{'p99 µs':>10}{'p50 ratio':>11}{'p99 ratio':>11}"
    )
    for arm in arms:
        ratios = f"{arm.p50 / arms[0].p50:>11.2f}{arm.p99 / arms[0].p99:>11.3f}"
        print(f"{arm.name:30}{arm.p50:>9.1f}{arm.p99:>10.1f}{ratios}")


LEVELS = ("process", "none")


def main() -> None:
    """Run the comparison without and with CPU-bound threads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--block", type=int, default=200)
    parser.add_argument("--folder", help="where to write; default: the temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        compare(Path(folder), 0, options.rounds, options.block)
        compare(Path(folder), 4, max(3, options.rounds // 6), options.block // 4)


if __name__ == "__main__":
    main()
