"""What logical paths cost: starting a task, and asking for its label, without a session and inside one.

Blocks with and without a session alternate; what is shown is the best block of each, as tasks take microseconds and a
busy machine adds milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from lmtrace import _paths
from lmtrace.integrations import tasks

BLOCK = 2_000


def nothing() -> None: ...


async def anothing() -> None: ...


def submit() -> float:
    """`ThreadPoolExecutor.submit` until the last result is there."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(nothing).result()
        start = time.perf_counter()
        for _ in range(BLOCK):
            pool.submit(nothing)
        pool.shutdown()
        return (time.perf_counter() - start) / BLOCK


def start_thread() -> float:
    start = time.perf_counter()
    for _ in range(BLOCK // 10):
        thread = threading.Thread(target=nothing)
        thread.start()
        thread.join()
    return (time.perf_counter() - start) / (BLOCK // 10)


def gather() -> float:
    """An asyncio task from its making to its end, a hundred at a time."""

    async def main() -> float:
        start = time.perf_counter()
        for _ in range(BLOCK // 100):
            await asyncio.gather(*(anothing() for _ in range(100)))
        return (time.perf_counter() - start) / BLOCK

    return asyncio.run(main())


def label() -> float:
    """`lmtrace._paths.current()` in an asyncio task: what each call asks once."""

    async def main() -> float:
        start = time.perf_counter()
        for _ in range(BLOCK):
            _paths.current()
        return (time.perf_counter() - start) / BLOCK

    return asyncio.run(main())


ARMS: dict[str, Callable[[], float]] = {
    "`ThreadPoolExecutor.submit`, run": submit,
    "`Thread.start` and `join`": start_thread,
    "asyncio task, made and run": gather,
    "the label, once a call": label,
}


def within(arm: Callable[[], float]) -> float:
    root = tasks.start()
    try:
        return arm()
    finally:
        tasks.stop(root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    print("| | without µs | in a session µs | added | ratio |\n|---|---|---|---|---|")
    for name, arm in ARMS.items():
        times = [(arm() * 1e6, within(arm) * 1e6) for _ in range(rounds)]
        bare, labelled = min(without for without, _ in times), min(inside for _, inside in times)
        print(f"| {name} | {bare:.2f} | {labelled:.2f} | {labelled - bare:+.2f} | {labelled / bare:.1f} |")


if __name__ == "__main__":
    main()
