"""Processes that fork, freeze and are replaced (faults 6, 7, 37): whoever acknowledged a call, it is there, once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., "subprocess.Popen[str]"]
Query = Callable[[str], list[tuple[Any, ...]]]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and forks of POSIX")


def test_preload(start: Start, query: Query, tmp_path: Path) -> None:
    """A server that forks after its first call, whose workers are killed and replaced, and stopped with SIGTERM at last."""
    with (tmp_path / "said").open("ab") as said:
        server = start("server.py", stdout=said, stderr=subprocess.PIPE)
        assert server.stdin is not None
        assert server.stderr is not None
        for _ in range(3):
            assert server.stderr.readline() == "ready\n"
        for _ in range(4):
            server.stdin.write("kill one\n")
            server.stdin.flush()
            assert server.stderr.readline() == "ready\n"
        _, complaints = server.communicate()
    assert (server.returncode, complaints) == (0, "")
    acknowledged = (tmp_path / "said").read_text().split()
    rows = [uuid for (uuid,) in query("SELECT uuid FROM calls")]
    assert set(acknowledged) <= set(rows)
    assert len(rows) == len(set(rows)) <= len(acknowledged) + 4, (
        "at most the call a killed worker was in is there besides"
    )
    assert query("SELECT count(DISTINCT pid), count(*) = count(DISTINCT span_id) FROM calls") == [(8, True)]


def test_forkserver(start: Start, query: Query) -> None:
    """The workers of a pool of method "forkserver", which fork from a process that has not called."""
    process = start("ending.py", "forkserver_pool", stderr=subprocess.DEVNULL)
    acknowledged, _ = process.communicate()
    assert process.returncode == 0
    assert sorted(query("SELECT uuid FROM calls")) == sorted((uuid,) for uuid in acknowledged.split())


def test_frozen(start: Start, query: Query, tmp_path: Path) -> None:
    """A process that is stopped amid its calls holds up neither others, nor readers, nor compaction; then it goes on."""
    said = [tmp_path / "frozen", tmp_path / "other"]
    callers = []
    for path in said:
        with path.open("ab") as file:
            callers.append(start("caller.py", 4, 0, 2_000, stdout=file))
    grown(said[0])
    for _ in range(3):
        threading.Event().wait(random.uniform(0.01, 0.1))  # any moment will do
        callers[0].send_signal(signal.SIGSTOP)
        subprocess.run([sys.executable, "-m", "lmtrace", "compact"], check=True, stdout=subprocess.DEVNULL)
        before = query("SELECT count(*) FROM calls")[0][0]
        for _ in range(5):  # the rows of four threads may have been there before they were acknowledged
            grown(said[1])
        assert query("SELECT count(*) FROM calls")[0][0] > before
        callers[0].send_signal(signal.SIGCONT)
        grown(said[0])
    for caller in callers:
        caller.kill()
        caller.wait()
    acknowledged = {line for path in said for line in path.read_text().split("\n")[:-1]}
    rows = [uuid for (uuid,) in query("SELECT uuid FROM calls")]
    assert len(rows) == len(set(rows))
    assert acknowledged <= set(rows)


def grown(path: Path) -> None:
    """Wait until there is more in a file."""
    size, deadline = path.stat().st_size, time.monotonic() + 60
    while path.stat().st_size == size:
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
