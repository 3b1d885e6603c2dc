"""One contract for every exporter."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmtrace._exporter import Exporter, Record
from lmtrace_exporters import InMemoryExporter, JSONLExporter, StoreError, StoreExporter, open_history

MakeCall = Callable[..., Record]


def rows_of(exporter: Exporter) -> list[dict[str, Any]]:
    if isinstance(exporter, InMemoryExporter):
        return exporter.rows
    if isinstance(exporter, JSONLExporter):
        return [json.loads(line) for line in exporter.path.read_text().splitlines()] if exporter.path.exists() else []
    assert isinstance(exporter, StoreExporter)
    with open_history(exporter.path) as history:
        return history.recent(10_000)


@pytest.fixture(params=["memory", "jsonl", "store"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Exporter:
    """Each of the exporters."""
    if request.param == "memory":
        return InMemoryExporter()
    if request.param == "jsonl":
        return JSONLExporter(tmp_path / "new" / "rows.jsonl")
    return StoreExporter(tmp_path / "store", compaction=False)


def test_rows_are_there(sink: Exporter, make_call: MakeCall) -> None:
    """When `export` returned, the rows are where the exporter puts them."""
    sink.export([make_call("u1", cost=0.5), make_call("u2")])
    sink.export([make_call("u3")])
    found = {row["uuid"]: row.get("cost") for row in rows_of(sink)}
    assert found == {"u1": 0.5, "u2": None, "u3": None}
    sink.shutdown()


def test_nothing_before_the_first(sink: Exporter, tmp_path: Path) -> None:
    """An exporter that was given nothing leaves nothing behind."""
    sink.export([])
    assert sink.force_flush()
    sink.shutdown()
    assert rows_of(sink) == []
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix == ".jsonl"]


def test_many_threads(sink: Exporter, make_call: MakeCall) -> None:
    """Threads export at the same time, and every row is there once."""
    threads = [
        threading.Thread(target=lambda name=name: [sink.export([make_call(f"{name}-{n}")]) for n in range(50)])
        for name in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    uuids = [row["uuid"] for row in rows_of(sink)]
    assert len(uuids) == len(set(uuids)) == 400
    sink.shutdown()


def test_flush_and_shutdown(sink: Exporter, make_call: MakeCall) -> None:
    """A flush says yes, a second shutdown is nothing, and a record afterwards is an error; the rows stay."""
    sink.export([make_call("u1")])
    assert sink.force_flush(5_000) is True
    sink.shutdown()
    sink.shutdown()
    with pytest.raises(StoreError, match="closed"):
        sink.export([make_call("u2")])
    assert [row["uuid"] for row in rows_of(sink)] == ["u1"]


def test_forked_child(sink: Exporter, make_call: MakeCall) -> None:
    """A forked child can export; a sink outside the process has the rows of both."""
    sink.export([make_call("u1")])
    if not (child := os.fork()):
        sink.export([make_call("u2")])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    sink.export([make_call("u3")])
    expected = {"u1", "u3"} if isinstance(sink, InMemoryExporter) else {"u1", "u2", "u3"}
    assert {row["uuid"] for row in rows_of(sink)} == expected
    sink.shutdown()


def test_unwritable_file(tmp_path: Path, make_call: MakeCall) -> None:
    """A file that cannot be written is an error that names it."""
    with pytest.raises(StoreError, match="cannot write to"):
        JSONLExporter(tmp_path).export([make_call("u1")])


def test_memory_clear(make_call: MakeCall) -> None:
    """An exporter in memory can be emptied, and says which kind each row is."""
    sink = InMemoryExporter()
    sink.export([make_call("u1")])
    assert sink.rows[0]["kind"] == "call"
    sink.clear()
    assert sink.rows == []


def test_interrupted_export(sink: Exporter, make_call: MakeCall) -> None:
    """A signal handler or finaliser that exports amid its own thread's export waits for nobody, and no row is lost."""
    count = 0

    def interrupt(*_: object) -> None:
        nonlocal count
        count += 1
        sink.export([make_call(f"signal-{count}")])

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for number in range(2_000):
            sink.export([make_call(str(number))])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert sink.force_flush()
    uuids = [row["uuid"] for row in rows_of(sink)]
    assert len(uuids) == len(set(uuids)) == 2_000 + count
    sink.shutdown()
