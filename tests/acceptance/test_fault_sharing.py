"""What programs share on a disk, when it is busy, slow or lies (faults 32-35). Stores on a network have the same faults.

The index of answers stands for Redis or PostgreSQL, the lock of a compaction for a lease, a file system without locks for
a bucket without conditional writes. The ambiguous time-out of an upload is `EIO, though it was done` in `tests/store/test_nth.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from instant import Instant

import lmtrace
from lmtrace_exporters import compact

Start = Callable[..., "subprocess.Popen[str]"]
Query = Callable[[str], list[tuple[Any, ...]]]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="locks and signals of POSIX")

HOLD = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA locking_mode = EXCLUSIVE")
database.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


class Counted(Instant):
    """A provider that other processes know, too, and how often it was asked."""

    cache_name = "a provider"
    asked = 0

    def complete(self, *arguments: Any) -> Any:
        self.asked += 1
        return super().complete(*arguments)


def test_index_held(query: Query, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a frozen process holds the index of answers, calls ask the provider at once; later they are answered from it."""
    monkeypatch.delenv("LMTRACE_TEST_RAISE")
    provider = Counted()
    lm = lmtrace.LM("local/counted", backend=provider, num_retries=0)
    assert lm("makes the index") == ["makes the index"]
    lmtrace.shutdown()
    words = [sys.executable, "-c", HOLD, store / "index.sqlite"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for number in range(20):
            assert lm(str(number)) == [str(number)]
        holder.kill()
    assert provider.asked == 21
    assert query("SELECT count(*), max(duration_ms) < 5000 FROM calls WHERE served_by = 'provider'") == [(21, True)]
    lmtrace.shutdown()
    lm("new")
    lmtrace.shutdown()
    lm("new")
    assert provider.asked == 22, "the index is in use again"


def test_holder_paused(start: Start, query: Query) -> None:
    """A program frozen amid its call holds up no other that asks the same; both are answered, one answer is kept."""
    frozen, other = start("sharing.py"), start("sharing.py")
    assert frozen.stdout is not None
    assert frozen.stdout.readline() == "asked\n"
    frozen.send_signal(signal.SIGSTOP)
    assert other.communicate("\n")[0] == f"asked\nanswer of {other.pid}\n"
    frozen.send_signal(signal.SIGCONT)
    assert frozen.communicate("\n")[0] == f"answer of {frozen.pid}\n"
    for _ in range(2):
        assert start("sharing.py").communicate()[0] == f"answer of {other.pid}\n"
    assert query("SELECT served_by, count(*) FROM calls GROUP BY ALL ORDER BY ALL") == [("cache", 2), ("provider", 2)]


def test_locks_ignored(query: Query, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that gives every lock to everybody no file is moved or removed: one may be written to."""
    import fcntl

    lm = lmtrace.LM("local/instant", backend=Instant(), num_retries=0)
    lm("before")
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", lambda *_: None)
        with pytest.raises(OSError, match="ignores locks"):
            compact(store)
        lm("between")
    lm("after")
    assert query("SELECT count(*), count(DISTINCT uuid) FROM calls") == [(3, 3)]
    lmtrace.shutdown()
    assert compact(store).rows == 3


def test_no_locks_at_all(query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file cannot be locked, calls go on, rows wait in memory, and come when it can."""
    import fcntl

    def refuse(*arguments: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.delenv("LMTRACE_TEST_RAISE")
    lm = lmtrace.LM("local/instant", backend=Instant(), num_retries=0)
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", refuse)
        assert [lm(text) for text in ("a", "b")] == [["a"], ["b"]]
        assert lmtrace.flush(1) is False
    assert lmtrace.flush(60) is True
    assert query("SELECT count(*) FROM calls") == [(2,)]
