"""The format on the disk: what one line, one directory and one row look like, and that all of it comes back."""

from __future__ import annotations

import json
import os
import stat
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtrace._exporter import Record
from lmtrace_exporters import StoreError, StoreExporter, StoreVersionError, compact, open_history
from lmtrace_exporters._line import frame, is_intact, is_whole, payload

TEXT = st.text(max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)


def test_line_snapshot() -> None:
    """A line is the record with the CRC-32 of everything before it as its last key, and a newline."""
    assert frame(b'{"kind":"call","uuid":"u1"}') == b'{"kind":"call","uuid":"u1","crc32":"c9279d7a"}\n'
    assert zlib.crc32(b'{"kind":"call","uuid":"u1"') == 0xC9279D7A


@given(st.dictionaries(TEXT, JSON, min_size=1, max_size=8))
def test_line_round_trip(data: dict[str, object]) -> None:
    """Any record is one line of valid JSON, intact, and comes back byte for byte."""
    record = orjson.dumps(data)
    line = frame(record)
    assert line.count(b"\n") == 1
    assert is_intact(line[:-1])
    assert is_whole(line)
    assert not is_whole(line[:-1])
    assert payload(line[:-1]) == record
    assert json.loads(line)["crc32"] == f"{zlib.crc32(record[:-1]):08x}"


@given(st.binary(min_size=1, max_size=20_000), st.data())
def test_line_flips(body: bytes, data: st.DataObject) -> None:
    """A line with one flipped bit is never taken for what was written."""
    line = bytearray(frame(b"{" + body + b"}"))
    bit = data.draw(st.integers(0, len(line) * 8 - 9))
    line[bit // 8] ^= 1 << bit % 8
    assert not is_intact(bytes(line[:-1]))
    assert not is_whole(bytes(line))


def test_directory(store: Path, exporter: StoreExporter, make_call: Callable[..., Record]) -> None:
    """The first record makes the directory, readable by its owner only, ignored by git, with its format."""
    assert not store.exists()
    exporter.export([make_call("u1")])
    assert json.loads((store / "store.json").read_bytes())["format"] == 1
    assert (store / ".gitignore").read_text() == "*\n"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (store, *store.rglob("*"))}
    assert set(modes.values()) == {0o600, 0o700}
    assert modes["journal"] == modes["store"] == 0o700


def test_compacted_directory(store: Path, exporter: StoreExporter, make_call: Callable[..., Record]) -> None:
    """Segments are private too, and lie in one folder per day and kind of row."""
    exporter.export(
        [make_call("u1"), Record("span", b'{"kind":"span","span_id":"s","timestamp":"2026-11-22T00:00:00Z"}')]
    )
    exporter.shutdown()
    compact(store)
    assert {stat.S_IMODE(path.stat().st_mode) for path in store.rglob("*")} == {0o600, 0o700}
    folders = {str(path.parent.relative_to(store)) for path in store.rglob("*.parquet")}
    assert folders == {"segments/date=2026-11-21", "spans/date=2026-11-22"}


def test_row_round_trip(store: Path, exporter: StoreExporter) -> None:
    """A row has the same values before and after compaction, those of a newer version included."""
    columns = {
        "timestamp": "2026-11-21T23:59:59.999999Z",
        "tags": {"exp": "a", "quote'": '"'},
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Grüße\u0000\n"}]}],
        "outputs": [{"text": "hi", "reasoning_content": "why"}],
        "finish_reasons": ["stop"],
        "input_tokens": 2**40,
        "cost": 0.1 + 0.2,
        "cache_hit": False,
        "novelty": {"a": [1]},
        "schema_version": 9,
    }
    exporter.export([Record("call", orjson.dumps({"kind": "call", "uuid": "u1", **columns}))])
    exporter.shutdown()
    with open_history(store) as history:
        before, recent = history.call("u1"), history.recent(1)[0]
        compact(store)
        after = history.call("u1")
    assert before == after == recent
    assert before is not None
    expected = {**columns, "timestamp": datetime(2026, 11, 21, 23, 59, 59, 999999, UTC), "output_text": "hi"}
    expected["extra"] = {"novelty": expected.pop("novelty")}
    assert {name: before[name] for name in expected} == expected


def test_newer_store(
    store: Path, make_exporter: Callable[..., StoreExporter], make_call: Callable[..., Record]
) -> None:
    """A store of a newer major version is refused by writers, readers and compaction, and left as it is."""
    make_exporter().export([make_call("u1")])
    (store / "store.json").write_text('{"format": 2}')
    before = sorted(store.rglob("*"))
    other = make_exporter()
    for action in (lambda: other.export([make_call("u2")]), lambda: open_history(store), lambda: compact(store)):
        with pytest.raises(StoreVersionError, match=r"format 2.*upgrade lmtrace"):
            action()
    assert sorted(store.rglob("*")) == before


def test_damaged_description(store: Path, exporter: StoreExporter, make_call: Callable[..., Record]) -> None:
    """A flipped bit in the description is noticed, whatever it says then."""
    exporter.export([make_call("u1")])
    text = bytearray((store / "store.json").read_bytes())
    text[text.index(b"created")] ^= 1
    (store / "store.json").write_bytes(text)
    with pytest.raises(StoreError, match="damaged"):
        open_history(store)


def test_large_payload(store: Path, exporter: StoreExporter, make_call: Callable[..., Record]) -> None:
    """A text over 1 MB lives once, by its hash, and is given back with its call."""
    picture = "x" * 2_000_000
    exporter.export([make_call(f"u{number}", prompt=picture, messages=[{"content": picture}]) for number in range(3)])
    assert len(list((store / "blobs").iterdir())) == 1
    assert sum(path.stat().st_size for path in (store / "journal").iterdir()) < 10_000
    with open_history(store) as history:
        row = history.call("u1")
        assert row is not None
        assert row["prompt"] == row["messages"][0]["content"] == picture
        assert '"sha256"' in history.sql("SELECT messages FROM calls").fetchall()[0][0]


def test_plain_parquet(store: Path, exporter: StoreExporter, make_call: Callable[..., Record]) -> None:
    """The segments can be read without lmtrace."""
    import duckdb

    exporter.export([make_call("u1", cost=0.5)])
    exporter.shutdown()
    compact(store)
    rows = duckdb.sql(f"SELECT uuid, cost, output_text FROM read_parquet('{store}/segments/**/*.parquet')").fetchall()
    assert rows == [("u1", 0.5, "This is a test.")]


def test_no_heavy_import(store: Path) -> None:
    """Writing needs neither DuckDB nor pyarrow nor SQLite."""
    import subprocess
    import sys

    code = (
        "import sys; from lmtrace._exporter import Record; from lmtrace_exporters import StoreExporter\n"
        f"exporter = StoreExporter({os.fspath(store)!r}); exporter.export([Record('call', b'{{\"kind\":\"call\"}}')])\n"
        "exporter.shutdown(); print(*{'duckdb', 'pyarrow', 'sqlite3'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
