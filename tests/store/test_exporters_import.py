"""What is exported can be imported: every row, once, whole, whatever else the file holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from lmtrace._exporter import Record
from lmtrace_exporters import (
    InMemoryExporter,
    JSONLExporter,
    ParquetExporter,
    StoreError,
    StoreExporter,
    StoreVersionError,
    compact,
    export_history,
    import_history,
    open_history,
    resend,
)

MakeCall = Callable[..., Record]
SPAN = {
    "kind": "span",
    "span_id": "00000000000000ff",
    "trace_id": f"{7:032x}",
    "timestamp": "2026-11-21T09:14:59.000001Z",
    "duration_ms": 1.5,
    "name": "outer",
    "span_kind": "run",
    "attributes": {"a": [1, "b"]},
    "tags": {"exp": "a"},
    "run_id": "r1",
}
COLUMNS = {
    "cost": 0.5,
    "tags": {"a b": "c=d"},
    "finish_reasons": ["stop"],
    "kwargs": {"temperature": 0.1},
    "attempts": 2,
}


@pytest.fixture
def source(tmp_path: Path, make_call: MakeCall) -> Path:
    """A store with two calls, one of a newer minor version, a payload over 1 MB, and a span; partly compacted."""
    path = tmp_path / "source"
    for records in (
        [make_call("u1", run_id="r1", **COLUMNS), Record("span", orjson.dumps(SPAN))],
        [make_call("u2", prompt="y" * 1_500_000, later={"new": [1, None]}, also="text")],
    ):
        exporter = StoreExporter(path, compaction=False)
        exporter.export(records)
        exporter.shutdown()
        if len(records) == 2:
            compact(path)
    return path


def contents(store: Path) -> dict[str, dict[str, Any]]:
    """The rows of a store by their identity, whole."""
    with open_history(store) as history:
        sink = InMemoryExporter()
        resend(history, sink)
    return {row.get("uuid") or row["span_id"]: row for row in sink.rows}


@pytest.mark.parametrize("name", ["rows.jsonl", "folder"])
def test_round_trip(name: str, source: Path, tmp_path: Path) -> None:
    """An exported history, imported into an empty store, is the same history, and importing it again changes nothing."""
    file, target = tmp_path / name, tmp_path / "target"
    with open_history(source) as history:
        export_history(history, file, "parquet" if name == "folder" else "jsonl")
    report = import_history(file, target)
    assert (report.calls, report.spans, report.known, report.refused) == (2, 1, 0, [])
    assert contents(target) == contents(source)
    compact(target)
    again = import_history(file, target)
    assert (again.calls, again.spans, again.known) == (0, 0, 3)
    assert contents(target) == contents(source)


def test_parquet_file(source: Path, tmp_path: Path) -> None:
    """One file of calls imports without its spans."""
    with open_history(source) as history:
        export_history(history, tmp_path / "calls.parquet", "parquet", where="uuid = 'u1'")
    report = import_history(tmp_path / "calls.parquet", tmp_path / "target")
    assert (report.calls, report.spans) == (1, 0)
    assert contents(tmp_path / "target")["u1"] == contents(source)["u1"]


def test_what_exporters_wrote(tmp_path: Path, make_call: MakeCall) -> None:
    """Files of a ParquetExporter and of a JSONLExporter can be imported; a row that is in both is there once."""
    sinks = [JSONLExporter(tmp_path / "rows.jsonl"), ParquetExporter(tmp_path / "folder")]
    for sink in sinks:
        sink.export([make_call("both"), make_call(type(sink).__name__), Record("span", orjson.dumps(SPAN))])
        sink.shutdown()
        import_history(sink.path, tmp_path / "store")
    assert set(contents(tmp_path / "store")) == {"both", "JSONLExporter", "ParquetExporter", SPAN["span_id"]}
    with open_history(tmp_path / "store") as history:
        assert history.sql("SELECT count(*) FROM calls").fetchall() == [(3,)]


def test_bad_lines(tmp_path: Path, make_call: MakeCall) -> None:
    """A line that is no row is named with its reason and left out; the others arrive."""
    rows = [
        make_call("good").line,
        b'{"kind":"call","uuid":"torn","times',
        b"[" * 20_000,
        b"[1]",
        b'{"kind":"call","timestamp":"2026-11-21T09:15:00Z"}',
        make_call("no-zone", timestamp="2026-11-21T09:15:00").line,
        make_call("dear", cost="dear").line,
        make_call("huge", input_tokens=2**63).line,
        b'{"kind":"pickle","uuid":"u","timestamp":"2026-11-21T09:15:00Z"}',
        make_call("last").line,
    ]
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(rows) + b"\n")
    report = import_history(tmp_path / "rows.jsonl", tmp_path / "store")
    assert [place.partition(":")[0] for place in report.refused] == [f"line {number}" for number in range(2, 10)]
    assert "line 7: cost is no DOUBLE" in report.refused
    assert set(contents(tmp_path / "store")) == {"good", "last"}


def test_newer_major(tmp_path: Path, make_call: MakeCall) -> None:
    """A row of a newer major version refuses the whole file before anything is imported."""
    lines = [make_call("u1").line, make_call("u2", schema_version=2).line]
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines))
    with pytest.raises(StoreVersionError, match=r"line 2.*upgrade lmtrace"):
        import_history(tmp_path / "rows.jsonl", tmp_path / "store")
    assert contents(tmp_path / "store") == {}


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", b"uuid,timestamp\n", b"\x80\x04\x95pickle"])
def test_foreign_files(tmp_path: Path, content: bytes) -> None:
    """A file of something else is refused with its name."""
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(StoreError, match="foreign"):
        import_history(tmp_path / "foreign", tmp_path / "store")


def test_interrupted_import(tmp_path: Path, make_call: MakeCall, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that ended half-way is completed by the next one, and no row is there twice."""
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(make_call(f"u{number}").line for number in range(1_200)))
    with monkeypatch.context() as patch:
        patch.setattr("lmtrace_exporters._import._count", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            import_history(tmp_path / "rows.jsonl", tmp_path / "store")
    report = import_history(tmp_path / "rows.jsonl", tmp_path / "store")
    assert (report.calls, report.known) == (700, 500)
    with open_history(tmp_path / "store") as history:
        assert history.sql("SELECT count(*), count(DISTINCT uuid) FROM calls").fetchall() == [(1_200, 1_200)]


@pytest.mark.parametrize("format", ["duckdb", "parquet", "jsonl", "csv"])
def test_payloads_are_whole(format: str, source: Path, tmp_path: Path) -> None:  # noqa: A002
    """What leaves a store has its large payloads in place, in every format."""
    with open_history(source) as history:
        file = export_history(history, tmp_path / f"out.{format}", format, where="uuid = ?", params=["u2"])
    if format in ("jsonl", "csv"):
        text = file.read_text()
        assert "y" * 1_500_000 in text
        assert "sha256" not in text
        return
    import duckdb

    table = f"'{file}'" if format == "parquet" else "calls"
    with duckdb.connect(":memory:" if format == "parquet" else str(file)) as connection:
        assert connection.sql(f"SELECT uuid, length(prompt) FROM {table}").fetchall() == [("u2", 1_500_000)]
