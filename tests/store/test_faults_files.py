"""Files that are damaged or not ours (faults 10-12): found, named, and never in the way of the others."""

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from lmtrace._exporter import Record
from lmtrace_exporters import StoreError, StoreExporter, compact, open_history, verify
from lmtrace_replay._index import Index

Make = Callable[..., StoreExporter]
MakeCall = Callable[..., Record]

FLIPS = int(os.environ.get("FLIPS", "25"))
"""How many bits of a file are flipped, others in every run."""

TEXT = "".join(random.Random(1).choices('abc "\\\n\t\x00é😀', k=900_000))


@pytest.fixture
def filled(store: Path, make_exporter: Make, make_call: MakeCall) -> set[str]:
    """A store with a segment, a closed journal and a payload; the uuids in it."""
    for name in ("old", "new"):
        exporter = make_exporter()
        exporter.export([make_call(f"{name}{number}") for number in range(3)])
        exporter.export([make_call(f"{name}-large", messages=[{"role": "user", "content": name + TEXT}])])
        exporter.shutdown()
        if name == "old":
            compact(store, grace_seconds=0)
    return {f"{name}{end}" for name in ("old", "new") for end in ("0", "1", "2", "-large")}


def found(store: Path) -> tuple[set[str], str]:
    with open_history(store) as history:
        rows = {uuid for (uuid,) in history.sql("SELECT uuid FROM calls").fetchall()}
        return rows, "\n".join(map(str, history.problems))


def test_payload_round_trip(store: Path, filled: set[str]) -> None:
    """Whatever characters a long text has, and wherever its pieces end, it comes back as it was."""
    with open_history(store) as history:
        for name in ("old", "new"):
            assert history.call(f"{name}-large")["messages"][0]["content"] == name + TEXT
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in (store / "blobs").iterdir()} == {
        path.name for path in (store / "blobs").iterdir()
    }


@pytest.mark.parametrize("characters", ["x", '"', "\\", "\n", "é", "😀", "\ud7ff", "\x00"])
def test_payload_of_one_character(store: Path, exporter: StoreExporter, make_call: MakeCall, characters: str) -> None:
    """A text of escapes only, or of none, is no exception; names and short texts beside it stay where they are."""
    text = characters * (1_500_000 // len(characters.encode()))
    columns = {"messages": [{"role": "user", "content": text}, {"role": "user", "content": 'short "quoted" \\'}]}
    exporter.export([make_call("u1", **columns, prompt={"k" * 1_200_000: "v", "again": text})])
    with open_history(store) as history:
        row = history.call("u1")
    assert row["messages"] == columns["messages"]
    assert len(list((store / "blobs").iterdir())) == 1, "one text is kept once"


def test_flipped_payload(store: Path, filled: set[str]) -> None:
    """Whichever bit of a payload is flipped: its text is never given out, and a verification names the file."""
    path = next((store / "blobs").iterdir())
    data = path.read_bytes()
    for bit in random.sample(range(len(data) * 8), FLIPS):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with open_history(store) as history:
            contents = [history.call(f"{name}-large")["messages"][0]["content"] for name in ("old", "new")]
        assert {type(content) for content in contents} == {dict, str}, f"bit {bit}"
    assert path.name in "\n".join(map(str, verify(store).problems))


def directory(path: Path) -> None:
    path.mkdir()


def link_out(path: Path) -> None:
    outside = path.parent.parent.parent / "outside"
    outside.write_bytes(b'{"kind":"call","uuid":"evil"}\n')
    path.symlink_to(outside)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def unreadable_bytes(path: Path) -> None:
    path.write_bytes(os.urandom(5_000))


def empty(path: Path) -> None:
    path.touch()


FOREIGN = [directory, link_out, pipe, unreadable_bytes, empty]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and links of POSIX")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("place", ["journal/1-host-1-00.jsonl", "segments/date=2020-01-01.parquet", "blobs/x", "x.tmp"])
@pytest.mark.parametrize("make", FOREIGN)
def test_foreign_files(store: Path, filled: set[str], make: Callable[[Path], None], place: str) -> None:
    """What somebody put among our files is no row, and holds up neither readers nor compaction nor writers."""
    path = store / place
    path.parent.mkdir(exist_ok=True)
    make(path)
    assert found(store)[0] == filled
    assert compact(store, grace_seconds=0).journals >= 1
    assert found(store)[0] == filled
    exporter = StoreExporter(store, compaction=False)
    exporter.export([Record("call", b'{"kind":"call","uuid":"later","timestamp":"2026-11-21T00:00:00Z"}')])
    exporter.shutdown()
    compact(store, grace_seconds=0)
    assert found(store)[0] == filled | {"later"}


@pytest.mark.parametrize("size", [0, 1, 100, -1])
@pytest.mark.parametrize("kind", ["journal/*.jsonl", "segments/*/*.parquet", "catalog.sqlite", "store.json", "blobs/*"])
def test_cut_files(store: Path, filled: set[str], kind: str, size: int) -> None:
    """A file that was cut short is named, or what is missing is a line that was never finished; all else is served."""
    path = max(store.glob(kind), key=lambda path: path.stat().st_size)
    data = path.read_bytes()
    path.write_bytes(data[:size])
    if kind == "store.json" and b"}" not in data[:size]:
        with pytest.raises(StoreError, match=r"store\.json"):
            found(store)
        return
    rows, problems = found(store)
    assert rows <= filled
    if kind in ("segments/*/*.parquet", "catalog.sqlite"):
        assert path.name in problems
    if kind == "blobs/*":
        assert path.name in "\n".join(map(str, verify(store).problems))
    if kind == "journal/*.jsonl":
        assert filled - rows <= {name for name in filled if name.startswith("new")}


def test_lost_catalog(store: Path, filled: set[str]) -> None:
    """Segments without a catalog are a loss that is named, not an empty history; compaction makes the catalog again."""
    (store / "catalog.sqlite").unlink()
    rows, problems = found(store)
    assert rows < filled
    assert "catalog is lost" in problems
    compact(store, grace_seconds=0)
    assert found(store) == (filled, "")


def test_flipped_index(store: Path) -> None:
    """Whichever bit of the index of answers is flipped: it gives the right answer, none, or an error; never another one."""
    path = store / "index.sqlite"
    expected = {number.to_bytes(32, "big"): b"answer %d" % number for number in range(40)}
    with closing(Index(path, max_bytes=1 << 30)) as index:
        for key, value in expected.items():
            index.put(key, value, 7)
    data = path.read_bytes()
    for bit in random.sample(range(len(data) * 8), FLIPS):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        for rest in store.glob("index.sqlite-*"):
            rest.unlink()
        with suppress(sqlite3.Error), closing(Index(path, max_bytes=1 << 30)) as index:
            given = {key: index.get(key) for key in expected}
            assert all(given[key] in (None, (7, expected[key])) for key in expected), f"bit {bit}"
