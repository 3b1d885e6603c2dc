"""Retention forgets whole days and nothing else: tags kept, killed at any step, beside writers and readers."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lmtrace._exporter import Record
from lmtrace_exporters import StoreExporter, collect_garbage, compact, open_history, rebuild_catalog, verify

MakeCall = Callable[..., Record]

DAYS = ("2020-11-19", "2020-11-20", "2020-11-21")
AFTER_TWO = datetime(2020, 11, 21, tzinfo=UTC)


class StoppedError(Exception):
    """Stands for a kill, in this process."""


@pytest.fixture
def filled(store: Path, make_exporter: Callable[..., StoreExporter], make_call: MakeCall) -> Path:
    """Three days of four rows and a span in segments, one row a day tagged; and a row of today in an open journal."""
    exporter = make_exporter()
    for day in DAYS:
        for number in range(4):
            tags = {"keep": "yes", "exp": str(number)} if number == 0 else {"exp": str(number)}
            exporter.export([make_call(f"{day}-{number}", timestamp=f"{day}T10:00:0{number}Z", tags=tags)])
        span = f'{{"kind":"span","span_id":"{day}","timestamp":"{day}T10:00:00Z","name":"run"}}'
        exporter.export([Record("span", span.encode())])
    exporter.shutdown()
    compact(store, grace_seconds=0)
    make_exporter().export([make_call("today", timestamp=datetime.now(UTC).isoformat())])
    return store


def rows(store: Path) -> set[str]:
    with open_history(store) as history:
        found = [uuid for (uuid,) in history.sql("SELECT uuid FROM calls").fetchall()]
    assert len(found) == len(set(found))
    return set(found)


def test_forgets_days(filled: Path) -> None:
    """Days that ended before the time go, rows and spans and files; later days and running journals stay."""
    report = collect_garbage(filled, before=AFTER_TWO, grace_seconds=0)
    assert (report.days, report.rows, report.kept) == ([*DAYS[:2]], 10, 0)
    assert rows(filled) == {*(f"{DAYS[2]}-{n}" for n in range(4)), "today"}
    assert {path.parent.name for path in filled.rglob("*.parquet")} == {f"date={DAYS[2]}"}
    assert not list(filled.rglob("date=2020-11-19"))
    assert verify(filled).is_sound


def test_time_inside_a_day(filled: Path) -> None:
    """A day goes only when all of it is before the time."""
    collect_garbage(filled, before=AFTER_TWO - timedelta(microseconds=1), grace_seconds=0)
    assert {uuid[:10] for uuid in rows(filled)} == {DAYS[1], DAYS[2], "today"}


@pytest.mark.parametrize(
    ("tags", "kept"), [({"keep": None}, {0}), ({"exp": "2", "keep": "no"}, {2}), ({"exp": "2", "keep": "yes"}, {0, 2})]
)
def test_keeps_tags(filled: Path, tags: dict[str, str | None], kept: set[int]) -> None:
    """A row with one of the tags stays, in a sound segment; doing it again changes nothing."""
    report = collect_garbage(filled, before=AFTER_TWO, keep_tags=tags, grace_seconds=0)
    expected = {f"{day}-{n}" for day in DAYS for n in (kept if day != DAYS[2] else range(4))} | {"today"}
    assert report.kept == 2 * len(kept)
    assert rows(filled) == expected
    files = sorted(filled.rglob("*.parquet"))
    assert collect_garbage(filled, before=AFTER_TWO, keep_tags=tags, grace_seconds=0).rows == 0
    assert rows(filled) == expected
    assert sorted(filled.rglob("*.parquet")) == files
    assert verify(filled).is_sound


def test_dry_run(filled: Path) -> None:
    """A dry run says the same and changes nothing."""
    before = {path: path.stat().st_mtime_ns for path in filled.rglob("*.parquet")}
    planned = collect_garbage(filled, before=AFTER_TWO, keep_tags={"keep": "yes"}, dry_run=True)
    assert {path: path.stat().st_mtime_ns for path in filled.rglob("*.parquet")} == before
    assert len(rows(filled)) == 13
    done = collect_garbage(filled, before=AFTER_TWO, keep_tags={"keep": "yes"})
    assert (planned.days, planned.rows, planned.kept, planned.bytes) == (done.days, done.rows, done.kept, done.bytes)


def test_max_size(filled: Path) -> None:
    """The oldest days go until the store is small enough, and never the current one."""
    whole = collect_garbage(filled, dry_run=True).left_bytes
    assert collect_garbage(filled, max_bytes=whole).days == []
    assert collect_garbage(filled, max_bytes=whole - 1, grace_seconds=0).days == [DAYS[0]]
    assert collect_garbage(filled, max_bytes=0, grace_seconds=0).days == [*DAYS[1:]]
    assert rows(filled) == {"today"}


def test_every_kill_point(filled: Path, tmp_path: Path) -> None:
    """Killed at any step, each day is whole or reduced to its kept rows; repeated, the work is finished."""

    def run(store: Path, step: Callable[[str], None]) -> None:
        collect_garbage(store, before=AFTER_TWO, keep_tags={"keep": None}, grace_seconds=0, on_step=step)

    steps: list[str] = []
    shutil.copytree(filled, tmp_path / "count")
    run(tmp_path / "count", steps.append)
    assert {"written", "committed", "deleted", "swept"} <= set(steps)
    expected = rows(tmp_path / "count")
    for last in range(len(steps)):
        copy = tmp_path / str(last)
        shutil.copytree(filled, copy)
        left = [*steps[: last + 1]]

        def step(_: str, left: list[str] = left) -> None:
            left.pop()
            if not left:
                raise StoppedError

        with pytest.raises(StoppedError):
            run(copy, step)
        found = rows(copy)
        for day in DAYS:
            assert sum(uuid.startswith(day) for uuid in found) in ((4,) if day == DAYS[2] else (1, 4)), steps[last]
        run(copy, lambda _: None)
        assert rows(copy) == expected, steps[last]
        assert verify(copy).is_sound


def test_beside_a_reader(filled: Path) -> None:
    """A reader in the middle of a query keeps the files it opened; its next query sees what is left."""
    with open_history(filled) as history:
        relation = history.sql("SELECT uuid FROM calls ORDER BY uuid")
        collect_garbage(filled, before=AFTER_TWO)
        assert len(relation.fetchall()) == 13
        assert history.sql("SELECT count(*) FROM calls").fetchall() == [(5,)]


def test_lost_catalog_after(filled: Path) -> None:
    """What was forgotten does not come back when the catalog must be made again."""
    collect_garbage(filled, before=AFTER_TWO, keep_tags={"keep": None}, grace_seconds=0)
    expected = rows(filled)
    for path in filled.glob("catalog.sqlite*"):
        path.unlink()
    assert rebuild_catalog(filled).rebuilt
    assert rows(filled) == expected


def test_payloads(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """A payload over 1 MB goes when no row mentions it any more, but never a young one, whose row may be on its way."""
    for day, letter in zip(DAYS, "abc", strict=True):
        large = [{"role": "user", "content": letter * (2 << 20)}]
        exporter.export([make_call(day, timestamp=f"{day}T10:00:00Z", messages=large)])
    exporter.shutdown()
    hour_ago = time.time() - 7200
    old = sorted((store / "blobs").iterdir())[:2]
    for path in old:
        os.utime(path, (hour_ago, hour_ago))
    assert collect_garbage(store, before=datetime(2020, 11, 1, tzinfo=UTC), grace_seconds=0).blobs == 0
    report = collect_garbage(store, max_bytes=0, grace_seconds=0)
    assert report.days == [*DAYS]
    assert report.blobs == 2
    assert len(list((store / "blobs").iterdir())) == 1
    assert verify(store).is_sound


def test_missing_store(store: Path) -> None:
    """A store that does not exist is nothing to do, and is not made."""
    assert collect_garbage(store, max_bytes=0).rows == 0
    assert not store.exists()
