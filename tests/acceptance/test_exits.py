"""However a program ends, the calls that had returned are in the history, once, and its end is not held up."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from patience import assert_within

Start = Callable[..., "subprocess.Popen[str]"]
Query = Callable[[str], list[tuple[Any, ...]]]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and forks of POSIX")

ENDS = {
    "returns": (0, 1),
    "exits": (3, 1),
    "raises": (1, 1),
    "os_exits": (4, 1),
    "aborts": (-signal.SIGABRT, 1),
    "terminated": (-signal.SIGTERM, 1),
    "terminated_in_python": (5, 2),
    "fails_in_thread": (0, 2),
    "at_exit": (0, 3),
    "forks": (0, 10),
    "multiprocessing_pool": (0, 13),
    "fork_pool": (0, 13),
    "spawn_pool": (0, 13),
}
"""Ways to end: the return code that Python gives them without lmtrace, and how many calls return."""


def ended(start: Start, end: str, code: int) -> list[str]:
    """The acknowledged calls of a program that ends in a way."""
    process = start("ending.py", end, stderr=subprocess.DEVNULL)
    acknowledged, _ = process.communicate()
    assert process.returncode == code
    return acknowledged.split()


@pytest.mark.parametrize("end", ENDS)
def test_ends(end: str, start: Start, query: Query) -> None:
    """The return code is the program's own, and every call that returned is there, once."""
    code, calls = ENDS[end]
    acknowledged = ended(start, end, code)
    assert len(acknowledged) == len(set(acknowledged)) == calls
    assert sorted(query("SELECT uuid FROM calls")) == sorted((uuid,) for uuid in acknowledged)


@pytest.mark.parametrize("end", ["daemon", "forks_amid_calls"])
def test_ends_amid_calls(end: str, start: Start, query: Query) -> None:
    """Threads that are still calling: all that returned is there, at most the calls in flight beside it, none twice."""
    acknowledged = set(ended(start, end, 0))
    rows = [uuid for (uuid,) in query("SELECT uuid FROM calls")]
    assert len(rows) == len(set(rows))
    assert acknowledged <= set(rows)
    assert len(rows) - len(acknowledged) <= 1


def test_stream_at_exit(start: Start, query: Query) -> None:
    """A stream that nobody reads to its end is a row that says so, with what had arrived."""
    ended(start, "streams", 0)
    assert query("SELECT streamed, error_type FROM calls ORDER BY uuid") == [
        (False, None),
        (True, "lmtrace.StreamAbandoned"),
    ]


@pytest.mark.parametrize("end", ["forks", "fork_pool"])
def test_children_are_told_apart(end: str, start: Start, query: Query) -> None:
    """Rows of a forked child have its own process id, and no trace or span is the parent's."""
    ended(start, end, 0)
    assert query("SELECT count(DISTINCT pid) > 1, count(*) = count(DISTINCT span_id) FROM calls") == [(True, True)]


@contextmanager
def silent_collector() -> Iterator[int]:
    """The port of a collector that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


@contextmanager
def dead_collector() -> Iterator[int]:
    """A port where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]


LAST_LINE = """
import time
from instant import instant_lm
lm = instant_lm()
for _ in range(50):
    lm("hello")
print(time.monotonic(), flush=True)
"""


@pytest.mark.parametrize(("collector", "protocol"), [(silent_collector, "http/protobuf"), (dead_collector, "grpc")])
def test_bad_collector(
    collector: Any, protocol: str, query: Query, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collector that hangs or is dead delays the end of a program by two seconds at most, and no row is missing."""
    monkeypatch.delenv("LMTRACE_TEST_RAISE")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path.endswith("programs")))
    monkeypatch.setenv("LMTRACE_OTLP_PROTOCOL", protocol)
    command, ends = [sys.executable, "-c", LAST_LINE], []

    def end() -> float:
        with collector() as port:
            monkeypatch.setenv("LMTRACE_OTLP", f"http://127.0.0.1:{port}")
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
            ends.append(time.monotonic() - float(done.stdout))
        return ends[-1]

    assert_within(2 + 1, end)  # one second for the interpreter's own end
    assert query("SELECT count(*) FROM calls") == [(50 * len(ends),)]
