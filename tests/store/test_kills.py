"""Nothing that was acknowledged is lost, and nothing is there twice, however processes die."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lmtrace_exporters import compact, open_history

sys.path.insert(0, str(Path(__file__).parent.parent))

from killing import killed_after

Start = Callable[..., "subprocess.Popen[str]"]


KILLS = int(os.environ.get("KILLS", "200"))


def check(store: Path, acknowledged: set[str]) -> None:
    with open_history(store) as history:
        rows = [uuid for (uuid,) in history.sql("SELECT uuid FROM calls").fetchall()]
        assert len(rows) == len(set(rows))
        assert acknowledged <= set(rows)
        assert not history.problems


def kill_writers(store: Path, start: Start, kills: int) -> None:
    acknowledged: set[str] = set()
    compactor = start("compactor.py", store, 1, 0.02)
    for number in range(0, kills, 2):
        sizes = random.choice([100, 5_000, 60_000]), random.choice([100, 2_000])
        writers = [start("writer.py", store, number + index, 3, 0, size) for index, size in enumerate(sizes)]
        for writer in writers:
            acknowledged |= killed_after(writer, random.uniform(0.005, 0.05))
        if compactor.poll() is not None:
            compactor = start("compactor.py", store, 1, 0.02)
    assert len(acknowledged) >= kills
    compactor.communicate(input="")  # a slow reader needs more than its one second of grace
    check(store, acknowledged)
    compact(store, grace_seconds=0)
    compact(store, grace_seconds=0)
    check(store, acknowledged)
    assert not list((store / "journal").iterdir())


def test_killed_writers(store: Path, start: Start) -> None:
    """Twenty random kills of a writer, a compactor that dies too beside it: each acknowledged row is there, once."""
    kill_writers(store, start, 20)


@pytest.mark.slow
@pytest.mark.timeout(10 * KILLS)
def test_many_killed_writers(store: Path, start: Start) -> None:
    """The same for two hundred kills, or as many as the variable KILLS says."""
    kill_writers(store, start, KILLS)


def test_many_processes(store: Path, start: Start) -> None:
    """8 processes of 16 threads with 500 rows each, a compactor and a reader beside them: exactly 64,000 rows and no error."""
    reader = start("reader.py", store)
    compactor = start("compactor.py", store, 60, 0)
    environment = {**os.environ, "ROLL_BYTES": "2000000"}
    writers = [
        start("writer.py", store, number, 16, 500, 500, stdout=subprocess.DEVNULL, env=environment)
        for number in range(8)
    ]
    assert [writer.wait() for writer in writers] == [0] * 8
    for process in (compactor, reader):
        process.communicate(input="")
        assert process.returncode == 0
    with open_history(store) as history:
        assert history.sql("SELECT count(*), count(DISTINCT uuid) FROM calls").fetchall() == [(64_000, 64_000)]
