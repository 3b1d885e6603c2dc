"""Compaction moves rows and never changes them: repeated, killed at any step, beside readers, over damaged files."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lmtrace._exporter import Record
from lmtrace_exporters import CompactionReport, StoreError, StoreExporter, compact, open_history
from lmtrace_exporters._line import frame

Make = Callable[..., StoreExporter]
MakeCall = Callable[..., Record]

DAYS = ("2020-11-19T10:00:00Z", "2020-11-20T23:59:59.999999Z", "2020-11-21T00:00:00Z")
FLIPS = int(os.environ.get("FLIPS", "25"))
"""How many bits of a file are flipped, others in every run."""

SPAN = Record("span", b'{"kind":"span","span_id":"s","timestamp":"2020-11-20T00:00:00Z","name":"run"}')


class StoppedError(Exception):
    """Stands for a kill, in this process."""


@pytest.fixture
def fill(store: Path, make_exporter: Make, make_call: MakeCall) -> Callable[[int], set[str]]:
    """Write some closed journals with rows of three days, and return the uuids."""
    numbers = itertools.count()

    def write(journals: int) -> set[str]:
        uuids = set()
        for number in itertools.islice(numbers, journals):
            exporter = make_exporter()
            for index, day in enumerate(DAYS):
                uuids.add(f"{number}-{index}")
                exporter.export([make_call(f"{number}-{index}", timestamp=day)])
            exporter.shutdown()
        return uuids

    return write


def rows(store: Path) -> list[str]:
    with open_history(store) as history:
        return sorted(uuid for (uuid,) in history.sql("SELECT uuid FROM calls").fetchall())


def problems(store: Path) -> str:
    with open_history(store) as history:
        return "\n".join(str(problem) for problem in history.problems)


def steps_of(action: Callable[[Callable[[str], None]], object]) -> list[str]:
    seen: list[str] = []
    action(seen.append)
    return seen


def test_moves_all_rows(store: Path, fill: Callable[[int], set[str]]) -> None:
    """Every row of a closed journal goes into one segment per day, and its journal goes after the grace period."""
    uuids = fill(3)
    report = compact(store)
    assert (report.journals, report.rows, report.segments) == (3, 9, 3)
    assert rows(store) == sorted(uuids)
    assert len(list((store / "journal").iterdir())) == 3
    compact(store, grace_seconds=0)
    assert not list((store / "journal").iterdir())
    assert rows(store) == sorted(uuids)


def test_idempotent(store: Path, fill: Callable[[int], set[str]]) -> None:
    """A second compaction finds nothing to do."""
    fill(2)
    compact(store)
    before = sorted(path for path in store.rglob("*.parquet"))
    assert compact(store) == CompactionReport()
    assert sorted(store.rglob("*.parquet")) == before


def test_missing_store(store: Path) -> None:
    """A store that does not exist needs no compaction, and none is made."""
    assert compact(store) == CompactionReport()
    assert not store.exists()


def test_open_journal(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """A journal that is still written to is left alone."""
    exporter.export([make_call("u1")])
    assert compact(store).journals == 0
    exporter.export([make_call("u2")])
    assert rows(store) == ["u1", "u2"]


def test_one_at_a_time(store: Path, fill: Callable[[int], set[str]]) -> None:
    """While one compaction runs, another one does nothing and says so."""
    fill(1)
    others = []
    compact(store, on_step=lambda _: others.append(compact(store).ran))
    assert set(others) == {False}


def test_sorted(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """The rows of a segment are in the order of their timestamps."""
    import duckdb

    seconds = random.sample(range(60), 30)
    exporter.export([make_call(str(second), timestamp=f"2026-11-21T00:00:{second:02}Z") for second in seconds])
    exporter.shutdown()
    compact(store)
    (segment,) = store.rglob("*.parquet")
    assert [int(uuid) for (uuid,) in duckdb.sql(f"SELECT uuid FROM '{segment}'").fetchall()] == sorted(seconds)


def prepare(store: Path, fill: Callable[[int], set[str]]) -> list[str]:
    """A store with small segments to merge, files to delete, spans and journals to compact."""
    uuids = fill(2)
    compact(store)
    uuids |= fill(2)
    exporter = StoreExporter(store, compaction=False)
    exporter.export([SPAN])
    exporter.shutdown()
    return sorted(uuids)


def test_every_kill_point(store: Path, tmp_path: Path, fill: Callable[[int], set[str]]) -> None:
    """Killed at any step and repeated, a compaction loses nothing, doubles nothing, and finishes its work."""
    uuids = prepare(store, fill)
    shutil.copytree(store, tmp_path / "count")
    steps = steps_of(lambda note: compact(tmp_path / "count", grace_seconds=0, on_step=note))
    assert {"tidied", "read", "renamed", "written", "committed", "merge-written", "merge-committed"} <= set(steps)
    for last in range(len(steps)):
        copy = tmp_path / str(last)
        shutil.copytree(store, copy)
        left = last

        def step(_: str) -> None:
            nonlocal left
            if not left:
                raise StoppedError
            left -= 1

        with pytest.raises(StoppedError):
            compact(copy, grace_seconds=0, on_step=step)
        assert rows(copy) == uuids, f"killed after {steps[last]}"
        compact(copy, grace_seconds=0)
        assert rows(copy) == uuids, f"repeated after {steps[last]}"
        compact(copy, grace_seconds=0)
        assert rows(copy) == uuids
        assert not list((copy / "journal").iterdir())
        assert not problems(copy)


def test_real_kills(store: Path, fill: Callable[[int], set[str]]) -> None:
    """The same with a real kill, which runs no cleaning-up: after the rename and after the transaction."""
    uuids = prepare(store, fill)
    for step in ("renamed", "committed"):
        code = (
            "import os, sys; from lmtrace_exporters import compact\n"
            f"compact(sys.argv[1], on_step=lambda step: os.kill(os.getpid(), 9) if step == {step!r} else None)"
        )
        done = subprocess.run([sys.executable, "-c", code, store], check=False)
        assert done.returncode == -signal.SIGKILL
        assert rows(store) == uuids
        uuids = sorted({*uuids, *fill(1)})
    compact(store)
    assert rows(store) == uuids


def test_merges(store: Path, fill: Callable[[int], set[str]]) -> None:
    """Small segments of a day that is over become one; whoever reads the folder never sees both."""
    import duckdb

    def plain() -> Any:
        return duckdb.sql(f"SELECT count(*), count(DISTINCT uuid) FROM '{store}/segments/**/*.parquet'").fetchall()

    uuids = fill(1)
    compact(store)
    uuids |= fill(1)
    report = compact(store)
    assert report.merged == 6
    assert rows(store) == sorted(uuids)
    assert plain() == [(6, 6)]
    compact(store, grace_seconds=0)
    assert rows(store) == sorted(uuids)
    assert plain() == [(6, 6)]
    assert len(list(store.glob("segments/*/*.parquet"))) == 3
    compact(store, grace_seconds=0)
    assert len(list(store.glob("segments/*/*"))) == 3


def test_torn_tail(store: Path, fill: Callable[[int], set[str]]) -> None:
    """A line that was never finished is dropped without a word, even if only its newline is missing."""
    uuids = fill(3)
    first, second, third = sorted((store / "journal").iterdir())
    first.write_bytes(first.read_bytes() + b'{"kind":"call","uuid":"torn"')
    second.write_bytes(second.read_bytes() + frame(b'{"kind":"call","uuid":"torn"}')[:-1])
    third.write_bytes(third.read_bytes() + b"\0" * 100)
    assert rows(store) == sorted(uuids)
    assert compact(store).quarantined == 0
    assert rows(store) == sorted(uuids)
    assert not problems(store)


def test_flipped_journal(store: Path, fill: Callable[[int], set[str]]) -> None:
    """A line with a flipped bit is reported, then quarantined with a report; every other row is served."""
    uuids = fill(2)
    journal = min((store / "journal").iterdir())
    data = bytearray(journal.read_bytes())
    data[data.index(b"This is a test.", data.index(b"\n"))] ^= 1
    journal.write_bytes(data)
    left = sorted(uuids - {"0-1"})
    assert rows(store) == left
    assert "1 lines differ from their checksum" in problems(store)
    assert compact(store).quarantined == 1
    assert rows(store) == left
    assert "1 rows" in problems(store)
    (report,) = (store / "quarantine").glob("*.report.json")
    assert json.loads(report.read_bytes())["file"] == f"journal/{journal.name}"
    assert b'"uuid":"0-1"' in report.with_name(report.name.removesuffix(".report.json")).read_bytes()


@pytest.mark.parametrize("damage", ["flip", "truncate", "garbage", "delete"])
def test_damaged_segment(store: Path, fill: Callable[[int], set[str]], damage: str) -> None:
    """A segment that is not what was written is reported, then quarantined; every other row is served."""
    uuids = fill(1)
    compact(store, grace_seconds=0)
    compact(store, grace_seconds=0)
    segment = next(store.glob("segments/date=2020-11-20/*.parquet"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 3] ^= 16
    changed = {"flip": bytes(data), "truncate": bytes(data[:100]), "garbage": b"x" * len(data)}.get(damage)
    segment.unlink() if changed is None else segment.write_bytes(changed)
    left = sorted(uuids - {"0-1"})
    assert rows(store) == left
    assert f"segments/date=2020-11-20/{segment.name}" in problems(store)
    assert compact(store).quarantined == 1
    assert rows(store) == left
    assert segment.name in problems(store)


@pytest.mark.parametrize("kind", ["journal/*", "segments/*/*.parquet", "catalog.sqlite", "store.json"])
def test_no_flip_is_silent(store: Path, fill: Callable[[int], set[str]], kind: str) -> None:
    """Whichever bit of whichever file is flipped: the answers stay right, or the history says what is wrong."""
    uuids = fill(2)
    compact(store, grace_seconds=0)
    uuids |= fill(2)
    (path, *_) = sorted(store.glob(kind))
    data = path.read_bytes()
    for bit in random.sample(range(len(data) * 8), FLIPS):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            with open_history(store) as history:
                found = sorted(uuid for (uuid,) in history.sql("SELECT uuid FROM calls").fetchall())
                assert found == sorted(uuids) or history.problems, f"bit {bit}"
        except StoreError:
            continue  # loud enough


def test_silent_flip(store: Path, fill: Callable[[int], set[str]]) -> None:
    """A flip below the file system, which leaves size and time alone, is found by a thorough compaction."""
    fill(1)
    compact(store, grace_seconds=0)
    segment = next(store.glob("segments/date=2020-11-20/*.parquet"))
    status, data = segment.stat(), bytearray(segment.read_bytes())
    data[len(data) // 3] ^= 16
    segment.write_bytes(data)
    os.utime(segment, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert compact(store).quarantined == 0
    assert compact(store, thorough=True).quarantined == 1


def test_unreadable_line(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """An intact line that is no row for DuckDB does not hold up the others; it is quarantined."""
    exporter.export(
        [make_call("u1"), make_call("u2", cost="free"), make_call("u3"), Record("call", b'{"kind":"call"}')]
    )
    exporter.shutdown()
    assert compact(store).quarantined == 2
    assert rows(store) == ["u1", "u3"]


@pytest.mark.parametrize("damage", ["lost", "garbage", "flip"])
def test_rebuilt_catalog(store: Path, fill: Callable[[int], set[str]], damage: str) -> None:
    """A lost or damaged catalog is made again from the segments, with each row once."""
    uuids = prepare(store, fill)
    compact(store)
    catalog = store / "catalog.sqlite"
    if damage == "flip":
        with closing(sqlite3.connect(catalog, isolation_level=None)) as db:
            db.execute("UPDATE segments SET rows = rows + 1")
    for path in store.glob("catalog.sqlite*"):
        if damage == "lost":
            path.unlink()
        if damage == "garbage":
            path.write_bytes(b"x" * 5_000)
    if damage != "lost":
        assert "catalog" in problems(store)
    compact(store)
    assert rows(store) == uuids
    compact(store, grace_seconds=0)
    compact(store, grace_seconds=0)
    assert rows(store) == uuids


def test_rebuilt_unfinished(store: Path, fill: Callable[[int], set[str]]) -> None:
    """Segments of a killed compaction that never were committed do not count when the catalog is made again."""
    uuids = fill(2)

    def step(name: str) -> None:
        if name == "renamed":
            raise StoppedError

    with pytest.raises(StoppedError):
        compact(store, on_step=step)
    for path in store.glob("catalog.sqlite*"):
        path.unlink()
    assert rows(store) == sorted(uuids)
    compact(store)
    assert rows(store) == sorted(uuids)


def test_foreign_parquet(store: Path, fill: Callable[[int], set[str]]) -> None:
    """A Parquet file that is not of our making is neither served nor deleted."""
    import duckdb

    uuids = fill(1)
    compact(store)
    foreign = store / "segments" / "date=2020-11-21" / "mine.parquet"
    duckdb.sql(f"COPY (SELECT 1 AS one) TO '{foreign}'")
    compact(store)
    assert foreign.exists()
    assert rows(store) == sorted(uuids)


def test_beside_readers(store: Path, fill: Callable[[int], set[str]]) -> None:
    """A history that stays open sees every row once before, during and after compactions, and a lazy answer too."""
    uuids = sorted(fill(4))
    with open_history(store) as history:
        lazy = history.sql("SELECT uuid FROM calls ORDER BY uuid")

        def check(_: str) -> None:
            assert [uuid for (uuid,) in history.sql("SELECT uuid FROM calls ORDER BY uuid").fetchall()] == uuids

        compact(store, on_step=check)
        compact(store, on_step=check)
        assert [uuid for (uuid,) in lazy.fetchall()] == uuids


def test_as_a_program(store: Path, fill: Callable[[int], set[str]]) -> None:
    """The detached program compacts, and leaves a note where it failed."""
    fill(1)
    command = [sys.executable, "-W", "error", "-m", "lmtrace_exporters._compaction", store]
    (store / "staging").write_text("in the way")
    assert subprocess.run(command, check=False).returncode == 1
    assert "the last compaction failed" in problems(store)
    (store / "staging").unlink()
    assert subprocess.run(command, check=False).returncode == 0
    assert not problems(store)


def test_readable_in_read_only_folder(store: Path, fill: Callable[[int], set[str]]) -> None:
    """The catalog can be read where SQLite can create nothing."""
    from lmtrace_exporters import _catalog
    from lmtrace_exporters._layout import Layout

    fill(1)
    compact(store)
    assert len(_catalog._load(Layout(store), "immutable=1").segments) == 3
