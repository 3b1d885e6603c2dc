"""`verify` finds every change to every kind of file, names the file, and touches nothing."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from lmtrace._exporter import Record
from lmtrace_exporters import StoreExporter, compact, rebuild_catalog, verify

MakeCall = Callable[..., Record]
LARGE = [{"role": "user", "content": "x" * (2 << 20)}]


@pytest.fixture
def filled(store: Path, exporter: StoreExporter, make_call: MakeCall) -> Path:
    """A store with one file of each kind."""
    exporter.export([make_call(f"s{number}") for number in range(20)])
    exporter.shutdown()
    compact(store, grace_seconds=0)
    other = StoreExporter(store, compaction=False)
    other.export([make_call(f"j{number}") for number in range(20)])
    other.export([make_call("large", messages=LARGE)])
    other.shutdown()
    return store


def names(store: Path) -> set[str]:
    return {problem.path for problem in verify(store).problems}


def test_sound(filled: Path) -> None:
    """Nothing is wrong with a store as it was written, a line that was never finished included."""
    (journal,) = (filled / "journal").iterdir()
    with journal.open("ab") as file:
        file.write(b'{"kind":"call","uuid":"half')
    report = verify(filled)
    assert report.is_sound, report.problems
    assert (report.segments, report.journals, report.blobs, report.rows) == (1, 1, 1, 41)


@pytest.mark.parametrize("pattern", ["segments/*/*.parquet", "journal/*.jsonl", "blobs/*"])
def test_flipped_bit(filled: Path, pattern: str) -> None:
    """One flipped bit anywhere is found, even when size and time of the file are what they were."""
    (path,) = filled.glob(pattern)
    whole, status = path.read_bytes(), path.stat()
    chance = random.Random(3)
    for _ in range(15):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert names(filled) == {path.relative_to(filled).as_posix()}
    path.write_bytes(whole)
    assert verify(filled).is_sound


@pytest.mark.parametrize("pattern", ["segments/*/*.parquet", "blobs/*"])
def test_missing_file(filled: Path, pattern: str) -> None:
    """A file that rows depend on and that is gone is found."""
    (path,) = filled.glob(pattern)
    path.unlink()
    assert names(filled) == {path.relative_to(filled).as_posix()}


def test_catalog(filled: Path) -> None:
    """A changed or lost catalog is found, and made again from the segments."""
    with closing(sqlite3.connect(filled / "catalog.sqlite")) as db, db:
        db.execute("UPDATE segments SET rows = rows + 1")
    assert "catalog.sqlite" in names(filled)
    assert rebuild_catalog(filled).rebuilt
    assert {name.partition("-")[0] for name in names(filled)} <= {
        "quarantine/catalog.sqlite",
        "quarantine/catalog.sqlite.report.json",
    }
    for path in (*filled.glob("catalog.sqlite*"), *filled.glob("quarantine/*")):
        path.unlink()
    assert names(filled) == {"catalog.sqlite"}
    report = rebuild_catalog(filled)
    assert (report.rebuilt, report.segments, report.rows) == (True, 1, 20)
    assert verify(filled).is_sound


def test_rebuild_forced(filled: Path) -> None:
    """A sound catalog is left alone; made again on request it says the same."""
    assert not rebuild_catalog(filled).rebuilt
    forced = rebuild_catalog(filled, force=True)
    assert (forced.rebuilt, forced.rows) == (True, 20)
    assert verify(filled).rows == 41


def test_quarantine(filled: Path) -> None:
    """What was set apart before is still reported."""
    (path,) = filled.glob("segments/*/*.parquet")
    path.write_bytes(b"garbage")
    compact(filled)
    assert any(name.startswith("quarantine/") for name in names(filled))
