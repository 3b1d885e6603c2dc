"""Forks (faults 6 and 7): the process is alone when it forks, parent and children go on recording, nobody takes another's."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lmtrace._exporter import Record
from lmtrace_exporters import StoreExporter, open_history
from lmtrace_exporters import _journal as journal_module

MakeCall = Callable[..., Record]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts threads as Linux has them")

FORKS = """
import os, sys
counts = []
os.register_at_fork(before=lambda: counts.append(len(os.listdir("/proc/self/task"))))  # runs after hooks that came later
from lmtrace._exporter import Record
from lmtrace_exporters import StoreExporter
exporter = StoreExporter(sys.argv[1], compaction=False)
def export(uuid):
    exporter.export([Record("call", b'{"kind":"call","uuid":"%s","timestamp":"2026-11-21T00:00:00Z"}' % uuid)])
for number in range(5):
    export(b"p%d" % number)
    assert exporter._background.is_alive
    child = os.fork()
    if not child:
        export(b"c%d" % number)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
print(counts)
"""


def test_alone(store: Path) -> None:
    """The store's thread is gone when the process forks, so Python has no reason to warn; it comes back with the next row."""
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", textwrap.dedent(FORKS), store],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("[1, 1, 1, 1, 1]", "")
    with open_history(store) as history:
        rows = history.sql("SELECT uuid FROM calls ORDER BY uuid").fetchall()
    assert [uuid for (uuid,) in rows] == [f"{who}{number}" for who in "cp" for number in range(5)]


def test_synced(exporter: StoreExporter, make_call: MakeCall) -> None:
    """What was written before a fork is on the disk after it: the thread that would have synced it later has gone."""
    exporter.export([make_call("u1")])
    exporter.export([make_call("u2")])
    if not (child := os.fork()):
        os._exit(0)
    os.waitpid(child, 0)
    assert exporter._synced == 2


def test_stalled(exporter: StoreExporter, make_call: MakeCall, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs does not hold up a fork, and the rows are synced when it goes on."""
    stalled, release, synced = threading.Event(), threading.Event(), threading.Event()

    def hang(fd: int) -> None:
        stalled.set()
        release.wait(60)
        synced.set()

    monkeypatch.setattr(journal_module, "_sync_file", hang)
    exporter.export([make_call("u1")])
    assert stalled.wait(60)
    if not (child := os.fork()):
        os._exit(0)
    os.waitpid(child, 0)
    assert not synced.is_set()
    exporter.export([make_call("u2")])
    release.set()
    assert exporter.force_flush()
    assert exporter._synced == 2
