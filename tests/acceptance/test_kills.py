"""A call that returned is there afterwards, once, however the processes around it die."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import lmtrace

sys.path.insert(0, str(Path(__file__).parent.parent))

from killing import killed_after

Start = Callable[..., "subprocess.Popen[str]"]
Query = Callable[[str], list[tuple[str, ...]]]

KILLS = int(os.environ.get("KILLS", "200"))

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes are waited for as POSIX has it")


@contextmanager
def compactors() -> Iterator[None]:
    """`lmtrace compact` again and again, two of three killed somewhere on their way."""
    stop = threading.Event()

    def compact() -> None:
        while not stop.is_set():
            with subprocess.Popen([sys.executable, "-m", "lmtrace", "compact"], stdout=subprocess.DEVNULL) as process:
                try:
                    process.wait(random.uniform(0.3, 1.5) if random.random() < 2 / 3 else None)
                except subprocess.TimeoutExpired:
                    process.kill()
            stop.wait(0.2)  # time for the programs to be killed in

    thread = threading.Thread(target=compact)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def kill_callers(start: Start, query: Query, kills: int) -> None:
    acknowledged: set[str] = set()
    reader = start("reader.py")
    with compactors():
        for number in range(kills):
            if number % 2 == 0:  # two at a time: one is starting while the other is being killed
                callers = [start("caller.py", 4, 0, random.choice([10, 2_000, 20_000])) for _ in range(2)]
            acknowledged |= killed_after(callers.pop(), random.uniform(0.0, 0.1))
    reader.communicate(input="")
    assert reader.returncode == 0
    assert len(acknowledged) >= kills
    check(query, acknowledged)
    subprocess.run([sys.executable, "-m", "lmtrace", "compact"], check=True, stdout=subprocess.DEVNULL)
    check(query, acknowledged)


def check(query: Query, acknowledged: set[str]) -> None:
    rows = [uuid for (uuid,) in query("SELECT uuid FROM calls")]
    assert len(rows) == len(set(rows))
    assert acknowledged <= set(rows)


def test_killed_programs(start: Start, query: Query) -> None:
    """Fifteen random kills of a program with four threads, compactors that die too beside it, and a reader."""
    kill_callers(start, query, 15)
    assert lmtrace.history().problems == ()


@pytest.mark.slow
@pytest.mark.timeout(10 * KILLS)
def test_many_killed_programs(start: Start, query: Query) -> None:
    """The same for two hundred kills, or as many as the variable KILLS says."""
    kill_callers(start, query, KILLS)
