"""Many processes record into one store at once, and nobody waits, fails or loses a row."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Start = Callable[..., "subprocess.Popen[str]"]
Query = Callable[[str], list[tuple[int, ...]]]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the reader waits for its stdin as POSIX has it")


def record(start: Start, query: Query, said: Path, *, processes: int, threads: int, calls: int) -> None:
    reader = start("reader.py")
    with said.open("ab") as file:  # appended to, so the lines of all of them stay whole
        callers = [
            start("caller.py", threads, calls, 500, stdout=file, stderr=subprocess.PIPE) for _ in range(processes)
        ]
    assert [(caller.communicate()[1], caller.returncode) for caller in callers] == [("", 0)] * processes
    acknowledged = said.read_text().split()
    reader.communicate(input="")
    assert reader.returncode == 0
    expected = processes * threads * calls
    assert len(acknowledged) == len(set(acknowledged)) == expected
    assert query("SELECT count(*), count(DISTINCT uuid), count(DISTINCT pid) FROM calls") == [
        (expected, expected, processes)
    ]
    assert {uuid for (uuid,) in query("SELECT uuid FROM calls")} == set(acknowledged)


def test_four_processes(start: Start, query: Query, tmp_path: Path) -> None:
    """4 processes of 4 threads with 100 calls each while a fifth queries: 1,600 rows, no error, none twice."""
    record(start, query, tmp_path / "said", processes=4, threads=4, calls=100)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_eight_processes(start: Start, query: Query, tmp_path: Path) -> None:
    """8 processes of 16 threads with 500 calls each while a ninth queries: 64,000 rows, no error, none twice."""
    record(start, query, tmp_path / "said", processes=8, threads=16, calls=500)
