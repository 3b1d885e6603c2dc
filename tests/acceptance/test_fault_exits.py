"""Collectors that are dead, slow, silent or overloaded (fault 9): calls, flushes and exits keep their time, rows are safe."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from patience import assert_within

import lmtrace

Query = Callable[[str], list[tuple[Any, ...]]]

SLACK_S = 1.0
"""What the interpreter itself may take for its end."""

PROGRAM = """
import json, sys, threading, time
from instant import instant_lm
import lmtrace
lm = instant_lm()
slowest = 0
for _ in range(50):
    begun = time.monotonic()
    lm("hello")
    slowest = max(slowest, time.monotonic() - begun)
beside = []
def wait():
    begun = time.monotonic()
    threading.Event().wait(0.5)
    beside.append(time.monotonic() - begun)
waiting = threading.Thread(target=wait)
waiting.start()
begun = time.monotonic()
flushed = lmtrace.flush(float(sys.argv[1]))
took = time.monotonic() - begun
waiting.join()
lm("after the flush")
print(json.dumps({"flushed": flushed, "took": took, "wait": beside[0], "slowest": slowest, "end": time.monotonic()}), flush=True)
"""


@contextmanager
def dead() -> Iterator[int]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]


@contextmanager
def silent() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


@contextmanager
def answering(status: int, seconds: float, headers: dict[str, str]) -> Iterator[int]:
    stop = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            stop.wait(seconds)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Nobody wants to know."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        stop.set()
        server.shutdown()
        thread.join()


COLLECTORS = {
    "sound": (lambda: answering(200, 0, {}), True),
    "dead": (dead, False),
    "silent": (silent, False),
    "slow": (lambda: answering(200, 5, {}), False),
    "overloaded": (lambda: answering(503, 0, {}), False),
    "overloaded for an hour": (lambda: answering(503, 0, {"Retry-After": "3600"}), False),
    "refusing": (lambda: answering(400, 0, {}), False),
}
"""Collectors, and whether spans arrive."""


@pytest.mark.parametrize("kind", COLLECTORS)
def test_collectors(kind: str, query: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`flush(0.5)` takes 0.6 s and tells the truth, the end is delayed by 2 s at most, and every row is there.

    A wait of half a second beside it says how late this machine is just now. Where spans arrive, a flush may take longer.
    """
    monkeypatch.delenv("LMTRACE_TEST_RAISE")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path.endswith("programs")))
    collector, arrives = COLLECTORS[kind]
    command = [sys.executable, "-c", PROGRAM, "60" if arrives else "0.5"]
    late: list[float] = []

    def lateness() -> float:
        with collector() as port:
            monkeypatch.setenv("LMTRACE_OTLP", f"http://127.0.0.1:{port}")
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
            ended = time.monotonic()
        report = json.loads(done.stdout)
        assert report["flushed"] is arrives
        flush_late = 0 if arrives else report["took"] - (report["wait"] + 0.1)
        late.append(max(flush_late, ended - report["end"] - 2 - SLACK_S))
        return late[-1]

    assert_within(0.001, lateness)
    assert query("SELECT count(*) FROM calls") == [(51 * len(late),)]


def timed(action: Callable[[], bool]) -> tuple[float, bool]:
    begun = time.monotonic()
    outcome = action()
    return time.monotonic() - begun, outcome


def test_flush_tells_of_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A flush says no while rows wait in memory or the disk hangs, in time, and yes when they are safe."""
    from instant import instant_lm

    from lmtrace_exporters import _journal

    monkeypatch.delenv("LMTRACE_TEST_RAISE")
    store = tmp_path / "elsewhere"
    store.write_text("in the way")
    lmtrace.configure(store=store)
    lm = instant_lm()
    lm("hello")
    assert lmtrace.flush(0.5) is False
    store.unlink()
    assert lmtrace.flush(60) is True
    release = threading.Event()
    monkeypatch.setattr(_journal, "_sync_file", lambda _: release.wait(60))
    lm("hello")

    def lateness() -> float:
        with ThreadPoolExecutor(1) as beside:
            wait = beside.submit(timed, lambda: threading.Event().wait(0.5))
            took, flushed = timed(lambda: lmtrace.flush(0.5))
        assert flushed is False
        return took - wait.result()[0]

    assert_within(0.1, lateness)
    release.set()
    assert lmtrace.flush(60) is True
    with lmtrace.history(store) as history:
        assert history.sql("SELECT count(*) FROM calls").fetchall() == [(2,)]
