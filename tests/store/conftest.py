"""Records, stores and processes for the tests of the store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from lmtrace._exporter import Record
from lmtrace_exporters import StoreExporter

PROGRAMS = Path(__file__).parent / "programs"


def call(uuid: str, **columns: Any) -> Record:
    """A call with the columns every row has."""
    row = {
        "kind": "call",
        "uuid": uuid,
        "timestamp": "2026-11-21T09:15:00.123456Z",
        "duration_ms": 5.0,
        "model": "m",
        "messages": [{"role": "user", "content": "Say this is a test!"}],
        "outputs": ["This is a test."],
        "schema_version": 1,
        **columns,
    }
    return Record("call", orjson.dumps(row))


@pytest.fixture(scope="session")
def make_call() -> Callable[..., Record]:
    """Make a call: `make_call("u1", cost=0.1)`."""
    return call


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where the store of a test is."""
    return tmp_path / "store"


@pytest.fixture
def make_exporter(store: Path) -> Iterator[Callable[..., StoreExporter]]:
    """Make exporters for the test's store; they are shut down afterwards."""
    made = []

    def make(**options: Any) -> StoreExporter:
        made.append(StoreExporter(store, **{"compaction": False, **options}))
        return made[-1]

    yield make
    for exporter in made:
        exporter.shutdown()


@pytest.fixture
def exporter(make_exporter: Callable[..., StoreExporter]) -> StoreExporter:
    """An exporter for the test's store."""
    return make_exporter()


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start one of the programs beside this file; it is killed afterwards if it still runs."""
    running = []

    def begin(program: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", PROGRAMS / program, *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(command, **{**pipes, **options}))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()
