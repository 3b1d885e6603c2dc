"""One contract for every exporter; tests marked with a sink's name are about what is its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

import lmtrace
from lmtrace._exporter import Exporter, Record
from lmtrace.testing import LoopbackProvider
from lmtrace_exporters import (
    DuckDBExporter,
    InMemoryExporter,
    JSONLExporter,
    OTLPExporter,
    ParquetExporter,
    StoreError,
    StoreExporter,
    open_history,
)

sys.path.insert(0, str(Path(__file__).parent.parent))

from receiver import receiver, running_receiver  # noqa: F401 - fixtures

KEY = "sk-canary-2f6e91"
SINKS = ("memory", "jsonl", "store", "duckdb", "parquet", "otlp")
FILES = ("jsonl", "store", "duckdb", "parquet")

MakeCall = Callable[..., Record]
MakeSink = Callable[[str], Exporter]


@pytest.fixture
def make(make_call: MakeCall) -> MakeCall:
    """Make a call that has a place in a trace."""
    return lambda uuid, **columns: make_call(uuid, trace_id=f"{7:032x}", span_id=os.urandom(8).hex(), **columns)


@pytest.fixture
def make_sink(tmp_path: Path, request: pytest.FixtureRequest) -> MakeSink:
    """Make an exporter by its name; its target is `target` in the temporary folder."""
    target = tmp_path / "new" / "target"
    return lambda name: {
        "memory": InMemoryExporter,
        "jsonl": lambda: JSONLExporter(target),
        "store": lambda: StoreExporter(target, compaction=False),
        "duckdb": lambda: DuckDBExporter(target),
        "parquet": lambda: ParquetExporter(target),
        "otlp": lambda: OTLPExporter(request.getfixturevalue("receiver").http),
    }[name]()


@pytest.fixture(params=SINKS)
def sink(request: pytest.FixtureRequest, make_sink: MakeSink) -> Exporter:
    """Each of the exporters."""
    return make_sink(request.param)


@pytest.fixture
def rows_of(request: pytest.FixtureRequest) -> Callable[[Exporter], list[dict[str, Any]]]:
    """The calls at an exporter's destination, flushed, in their order."""

    def read(sink: Exporter) -> list[dict[str, Any]]:
        assert sink.force_flush(60_000)
        if isinstance(sink, OTLPExporter):
            spans = request.getfixturevalue("receiver").spans()
            return [{"uuid": span["attributes"]["lmtrace.call.id"], **span} for span in spans]
        return _rows(sink)

    return read


def _rows(sink: Exporter) -> list[dict[str, Any]]:
    if isinstance(sink, InMemoryExporter):
        return list(sink.rows)
    if isinstance(sink, JSONLExporter):
        return [orjson.loads(line) for line in sink.path.read_bytes().splitlines()] if sink.path.exists() else []
    if isinstance(sink, StoreExporter):
        with open_history(sink.path) as history:
            return history.recent(10_000)[::-1]
    if isinstance(sink, ParquetExporter):
        files = sorted(map(str, sink.path.glob("calls/*.parquet")))
        return duckdb.read_parquet(files).to_arrow_table().to_pylist() if files else []
    assert isinstance(sink, DuckDBExporter)
    if not sink.path.exists():
        return []
    with duckdb.connect(sink.path, read_only=True) as connection:
        return connection.sql("FROM calls").to_arrow_table().to_pylist()


def uuids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["uuid"] for row in rows]


def test_order(sink: Exporter, make: MakeCall, rows_of: Any) -> None:
    """After a flush the records are at the destination, in the order they came, over several exports and flushes."""
    names = [f"u{number}" for number in range(40)]
    for start in range(0, 40, 10):
        sink.export([make(name) for name in names[start : start + 5]])
        sink.export([make(name) for name in names[start + 5 : start + 10]])
        if start % 20:
            assert sink.force_flush()
    found = uuids(rows_of(sink))
    assert sorted(found) == sorted(names)
    if not isinstance(sink, StoreExporter):  # its reader sorts by time, which is the same for all
        newest_first = isinstance(sink, OTLPExporter)  # how the receiver lists its two requests
        assert found == (names[20:] + names[:20] if newest_first else names)
    sink.shutdown()


def test_nothing_before_the_first(sink: Exporter, tmp_path: Path, rows_of: Any) -> None:
    """An exporter that was given nothing leaves nothing behind."""
    sink.export([])
    assert sink.force_flush()
    sink.shutdown()
    assert not (tmp_path / "new").exists()


def test_many_threads(sink: Exporter, make: MakeCall, rows_of: Any) -> None:
    """Threads export at the same time, while others flush, and every row is there once."""
    threads = [
        threading.Thread(target=lambda name=name: [sink.export([make(f"{name}-{n}")]) for n in range(50)])
        for name in range(8)
    ]
    threads += [threading.Thread(target=lambda: [sink.force_flush() for _ in range(3)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = uuids(rows_of(sink))
    assert len(found) == len(set(found)) == 400
    sink.shutdown()


def test_flush_and_shutdown(sink: Exporter, make: MakeCall, rows_of: Any) -> None:
    """Shutting down brings everything to its destination, once more is nothing, and a record afterwards is an error."""
    sink.export([make("u1")])
    sink.shutdown()
    sink.shutdown()
    with pytest.raises(StoreError, match="closed"):
        sink.export([make("u2")])
    assert uuids(rows_of(sink)) == ["u1"]


def test_forked_child(sink: Exporter, make: MakeCall, rows_of: Any) -> None:
    """A forked child can export and flush; a sink outside the process has the rows of both, each once."""
    sink.export([make("u1")])
    if not (child := os.fork()):
        code = 1
        try:
            sink.export([make("u2")])
            code = 0 if sink.force_flush(30_000) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    sink.export([make("u3")])
    expected = ["u1", "u3"] if isinstance(sink, InMemoryExporter) else ["u1", "u2", "u3"]
    assert sorted(uuids(rows_of(sink))) == expected
    sink.shutdown()


@pytest.mark.parametrize("name", ["duckdb", "parquet"])
def test_fork_amid_a_write(name: str, make_sink: MakeSink, make: MakeCall) -> None:
    """A process that forks while a batch is being written harms neither its own nor the child's rows."""
    sink = make_sink(name)
    expected = []
    for number in range(5):
        sink.export([make(f"{number}-{n}") for n in range(300)])
        expected += [f"{number}-{n}" for n in range(300)]
        flushing = threading.Thread(target=sink.force_flush)
        flushing.start()
        if not (child := os.fork()):
            code = 1
            try:
                sink.export([make(f"child-{number}")])
                code = 0 if sink.force_flush(30_000) else 2
            finally:
                os._exit(code)
        expected.append(f"child-{number}")
        assert os.waitpid(child, 0)[1] == 0
        flushing.join()
    assert sink.force_flush()
    found = uuids(_rows(sink))
    assert sorted(found) == sorted(expected)
    sink.shutdown()


@pytest.mark.parametrize("name", FILES)
def test_unwritable(name: str, make_sink: MakeSink, make: MakeCall, tmp_path: Path) -> None:
    """A target that cannot be written is an error that names it, a flush that says no, and a figure: nothing is silent."""
    (tmp_path / "new").write_text("a file where a folder should be")
    sink = make_sink(name)
    with pytest.raises(StoreError, match=str(tmp_path / "new")):
        sink.export([make("u1")])
    figures = sink.stats()
    assert figures["written"] == 0
    assert figures.get("buffered", 0) + figures["dropped"] == 1
    assert str(tmp_path / "new") in figures["last_error"]
    if "buffered" in figures:
        assert sink.force_flush() is False
        (tmp_path / "new").unlink()
        assert sink.force_flush() is True
        assert uuids(_rows(sink)) == ["u1"]
    sink.shutdown()


@pytest.mark.parametrize("name", ["duckdb", "parquet"])
def test_shutdown_without_target(
    name: str, make_sink: MakeSink, make: MakeCall, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be written by the end is counted and logged, and nothing tries for ever."""
    (tmp_path / "new").write_text("a file where a folder should be")
    sink = make_sink(name)
    with pytest.raises(StoreError):
        sink.export([make("u1"), make("u2")])
    sink.shutdown()
    assert (sink.stats()["buffered"], sink.stats()["dropped"]) == (0, 2)
    assert "2 records" in caplog.text


def test_interrupted_export(sink: Exporter, make: MakeCall, rows_of: Any) -> None:
    """A signal handler or finaliser that exports amid its own thread's export waits for nobody, and no row is lost."""
    count = 0

    def interrupt(*_: object) -> None:
        nonlocal count
        count += 1
        sink.export([make(f"signal-{count}")])

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for number in range(1_000):
            sink.export([make(str(number))])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    found = uuids(rows_of(sink))
    assert len(found) == len(set(found)) == 1_000 + count
    sink.shutdown()


def test_secrets_absent(sink: Exporter, tmp_path: Path, rows_of: Any, request: pytest.FixtureRequest) -> None:
    """A key that was passed to the call, or stands in its prompt, reaches no destination; the call does."""
    lmtrace.configure(exporters=[sink], store="off", content="span_only")
    with LoopbackProvider() as provider:
        lm = lmtrace.LM("openai/gpt-4o-mini", api_base=provider.openai_base, api_key=KEY)
        lm(f"my key is {KEY}")
    assert uuids(rows_of(sink)) == [lm.history[-1].uuid]
    sink.shutdown()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    seen = repr(request.getfixturevalue("receiver").read("traces")) if isinstance(sink, OTLPExporter) else ""
    held = repr(sink.rows) if isinstance(sink, InMemoryExporter) else ""
    assert KEY not in repr(kept) + seen + held


PROGRAM = """
import sys, duckdb, lmtrace
from lmtrace import LMOutput, LMResponse
from lmtrace._data import LMTextPart
from lmtrace_exporters import DuckDBExporter, ParquetExporter

class Parrot:
    def complete(self, request, secrets):
        return LMResponse(outputs=[LMOutput(parts=[LMTextPart("Hello")])])

target = {"duckdb": DuckDBExporter, "parquet": ParquetExporter}[sys.argv[1]](sys.argv[2])
lmtrace.configure(exporters=[target], store="off")
print(lmtrace.LM("local/parrot", backend=Parrot(), num_retries=0)("Hello"))
"""


@pytest.mark.parametrize("name", ["duckdb", "parquet"])
def test_program_ends(name: str, tmp_path: Path, make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that just ends has its rows written; one whose target cannot be written answers the same, and says it."""
    monkeypatch.delenv("LMTRACE_TEST_RAISE")
    target = tmp_path / "new" / "target"
    command = [sys.executable, "-c", PROGRAM, name]
    done = subprocess.run([*command, target], capture_output=True, text=True, check=True, timeout=200)
    assert len(_rows(make_sink(name))) == 1
    (tmp_path / "file").write_text("")
    failed = subprocess.run(
        [*command, tmp_path / "file" / "x"], capture_output=True, text=True, check=True, timeout=200
    )
    assert failed.stdout == done.stdout
    assert "1 finished calls are lost" in failed.stderr


ODD = {
    "surrogate": {"$lmtrace": "str", "value": "\\ud800"},
    "nan": {"$lmtrace": "float", "value": "nan"},
    "deep": [[[[[[[["x"]]]]]]]],
    "null": None,
    "unicode": "\u0000\u202e\U0001f600 'quoted' \"double\" \\ \r\n",
    "empty": {},
}


@pytest.mark.parametrize("name", ["memory", *FILES])
def test_odd_values(name: str, make_sink: MakeSink, make: MakeCall) -> None:
    """Odd values, unknown columns and rows of a megabyte arrive as they are."""
    sink = make_sink(name)
    large = "y" * 1_000_000
    sink.export([make("odd", kwargs=ODD, tags={"a=b": "c"}, new_column=[1]), make("large", prompt=large)])
    assert sink.force_flush()
    big, odd = sorted((_plain(row) for row in _rows(sink)), key=lambda row: str(row["uuid"]))
    assert (odd["uuid"], odd["kwargs"], odd["tags"]) == ("odd", ODD, {"a=b": "c"})
    assert (odd.get("extra") or {"new_column": odd.get("new_column")}) == {"new_column": [1]}
    assert (big["uuid"], big["prompt"]) == ("large", large)
    sink.shutdown()


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose JSON columns may be text and whose map may be a list of pairs."""
    for column in ("kwargs", "extra"):
        if isinstance(row.get(column), str):
            row[column] = orjson.loads(row[column])
    return {**row, "tags": dict(row["tags"]) if row.get("tags") else None}


def test_memory_clear(make: MakeCall) -> None:
    """An exporter in memory can be emptied, and says which kind each row is."""
    sink = InMemoryExporter()
    sink.export([make("u1")])
    assert sink.rows[0]["kind"] == "call"
    sink.clear()
    assert sink.rows == []


@pytest.mark.parametrize("name", ["duckdb", "parquet"])
def test_refused_record(name: str, make_sink: MakeSink, make: MakeCall, caplog: pytest.LogCaptureFixture) -> None:
    """A record that is no row is left out, counted and logged, and holds up no other."""
    sink = make_sink(name)
    sink.export([make("u1"), make("bad", cost="dear"), Record("call", b'{"kind":"call"}'), make("u2")])
    assert sink.force_flush() is False
    assert (sink.stats()["written"], sink.stats()["dropped"]) == (2, 2)
    assert "2 records" in caplog.text
    assert "dear" not in caplog.text
    sink.export([make("u3")])
    assert sink.force_flush() is True
    assert uuids(_rows(sink)) == ["u1", "u2", "u3"]
    sink.shutdown()


def test_otlp_refusals(receiver: Any, make_call: MakeCall) -> None:  # noqa: F811 - a fixture
    """A row without a trace is no span: it is refused and counted."""
    sink = OTLPExporter(receiver.http)
    sink.export([make_call("no-trace")])
    assert sink.force_flush() is False
    assert sink.stats()["dropped"] == 1
    sink.shutdown()


@pytest.mark.parametrize("name", ["duckdb", "parquet"])
def test_killed(name: str, tmp_path: Path, make_sink: MakeSink, start: Callable[..., Any]) -> None:
    """A killed process loses what waited in memory and nothing that was flushed; what it leaves can be added to."""
    target = tmp_path / "new" / "target"
    process = start("batching.py", name, target)
    flushed = int(process.stdout.readline())
    process.kill()
    process.wait()
    found = uuids(_rows(make_sink(name)))
    assert found[:flushed] == [f"u{number}" for number in range(flushed)]
    assert len(found) == len(set(found))
    again = make_sink(name)
    again.export([Record("call", orjson.dumps({"kind": "call", "uuid": "next", "timestamp": "2026-11-21T09:15:00Z"}))])
    assert again.force_flush()
    assert uuids(_rows(again))[-1] == "next"


@pytest.mark.parametrize("name", ["duckdb", "parquet"])
def test_left_behind(name: str, tmp_path: Path, make_sink: MakeSink, make: MakeCall) -> None:
    """What a process killed long ago left behind goes; what another one is writing now stays."""
    make_sink(name).shutdown()
    folder = tmp_path / "new" / ("target/calls" if name == "parquet" else ".")
    folder.mkdir(parents=True)
    pattern = ".1-2-ab.parquet.tmp" if name == "parquet" else ".lmtrace-spool-2-ab.jsonl"
    old, current = folder / pattern, folder / pattern.replace("ab", "cd")
    old.write_text("prompts")
    os.utime(old, (1, 1))
    current.write_text("prompts")
    sink = make_sink(name)
    sink.export([make("u1")])
    sink.shutdown()
    assert (old.exists(), current.exists()) == (False, True)


def test_duckdb_turns(tmp_path: Path, make: MakeCall, start: Callable[..., Any]) -> None:
    """While another process has the database, records wait and a flush says no; afterwards they are written once."""
    sink = DuckDBExporter(tmp_path / "d.duckdb")
    sink.export([make("u1")])
    assert sink.force_flush()
    holder = start("hold.py", sink.path)
    assert holder.stdout.readline() == "held\n"
    sink.export([make("u2")])
    assert sink.force_flush(300) is False
    assert sink.stats()["buffered"] + sink.stats()["dropped"] <= 1
    holder.communicate(input="")
    assert sink.force_flush() is True
    assert uuids(_rows(sink)) == ["u1", "u2"]
    sink.shutdown()


def test_duckdb_older_file(tmp_path: Path, make: MakeCall) -> None:
    """A database of another version gets the columns it lacks, keeps those it has, and answers the views."""
    path = tmp_path / "d.duckdb"
    with duckdb.connect(path) as connection:
        connection.sql("CREATE TABLE calls (uuid VARCHAR, timestamp TIMESTAMPTZ, later INTEGER)")
        connection.sql("INSERT INTO calls VALUES ('old', now(), 5)")
    sink = DuckDBExporter(path)
    sink.export([make("new", model="m", cost=0.5)])
    sink.shutdown()
    with duckdb.connect(path, read_only=True) as connection:
        rows = connection.sql("SELECT uuid, later, cost FROM calls ORDER BY rowid").fetchall()
        assert rows == [("old", 5, None), ("new", None, 0.5)]
        assert connection.sql("SELECT count(*) FROM messages").fetchall() == [(2,)]


def test_parquet_rotation(tmp_path: Path, make: MakeCall) -> None:
    """A file is made when enough bytes wait, whole before it has its name, and never touched again."""
    sink = ParquetExporter(tmp_path / "p", size=20_000)
    sink.export([make("u1", prompt="x" * 30_000)])
    written = threading.Event()
    while not list((tmp_path / "p" / "calls").glob("*.parquet")):
        written.wait(0.01)  # the fixture's time limit ends this
    (first,) = (tmp_path / "p" / "calls").iterdir()
    before = first.read_bytes()
    sink.export([make("u2")])
    sink.shutdown()
    assert first.read_bytes() == before
    assert uuids(_rows(sink)) == ["u1", "u2"]
