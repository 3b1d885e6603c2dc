"""Disks that are full, read-only, stalled, lying or gone (faults 1-3, 30, 31): calls go on, rows wait, losses are named."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lmtrace._exporter import Record
from lmtrace._failures import failures
from lmtrace_exporters import StoreError, StoreExporter, open_history
from lmtrace_exporters import _journal as journal_module
from lmtrace_exporters._backlog import MAX_BYTES
from lmtrace_exporters._layout import Layout
from lmtrace_exporters._troubles import troubles

Make = Callable[..., StoreExporter]
MakeCall = Callable[..., Record]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts and limits of Linux")


def uuids(store: Path) -> list[str]:
    with open_history(store) as history:
        assert not history.problems
        return sorted(uuid for (uuid,) in history.sql("SELECT uuid FROM calls").fetchall())


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def mount(*arguments: object) -> None:
    if subprocess.run(["mount", *map(str, arguments)], check=False, capture_output=True).returncode:
        pytest.skip("mounting needs more rights")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with a megabyte of room; root may write whatever the permissions say."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no mount")
    mount("-t", "tmpfs", "-o", "size=1m", "lmtrace", folder)
    yield folder
    while subprocess.run(["umount", "-l", folder], check=False, capture_output=True).returncode == 0:
        pass


@pytest.fixture
def on_disk(disk: Path) -> Iterator[StoreExporter]:
    """An exporter on the small disk."""
    exporter = StoreExporter(disk / "store", compaction=False)
    yield exporter
    exporter.shutdown()


@pytest.fixture
def unraised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are counted, as with users, not raised."""
    monkeypatch.delenv("LMTRACE_TEST_RAISE")


def fill_up(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(4_096))


def refuse(fd: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_fills_up_and_recovers(disk: Path, on_disk: StoreExporter, make_call: MakeCall) -> None:
    """While a disk is full rows wait; when there is room they come by themselves, in their order, none torn, none twice."""
    for number in range(20):
        on_disk.export([make_call(f"a{number:02}")])
    fill_up(disk)
    for number in range(100):
        try:
            on_disk.export([make_call(f"b{number:02}", prompt="x" * 500)])
        except StoreError:
            continue
    assert on_disk.stats()["buffered"] > 0
    assert len(uuids(disk / "store")) == on_disk.stats()["written"]
    (disk / "ballast").unlink()
    eventually(lambda: on_disk.stats()["buffered"] == 0)
    assert uuids(disk / "store") == [*(f"a{n:02}" for n in range(20)), *(f"b{n:02}" for n in range(100))]
    assert on_disk.stats()["dropped"] == 0


def test_large_payload(disk: Path, on_disk: StoreExporter, make_call: MakeCall, unraised: None) -> None:
    """A payload without room beside its row is counted; the row waits, whole, and nothing half-written stays."""
    before = failures.counts().get("keeping a payload beside its row", 0)
    with pytest.raises(StoreError, match="records wait"):
        on_disk.export([make_call("large", messages=[{"role": "user", "content": "y" * 3_000_000}])])
    assert failures.counts()["keeping a payload beside its row"] == before + 1
    assert not list((disk / "store" / "blobs").glob("*"))
    mount("-o", "remount,size=20m", disk)
    assert on_disk.force_flush()
    with open_history(disk / "store") as history:
        assert history.sql("SELECT length(messages::VARCHAR) > 3000000 FROM calls").fetchall() == [(True,)]


def test_read_only(disk: Path, on_disk: StoreExporter, make_call: MakeCall) -> None:
    """A disk that becomes read-only while a journal is open there: rows wait until it can be written again."""
    on_disk.export([make_call("u1")])
    assert on_disk.force_flush()
    on_disk._writer.retire()  # an open file would keep the disk from becoming read-only
    on_disk.force_flush()
    mount("-o", "remount,ro", disk)
    with pytest.raises(StoreError, match=os.strerror(errno.EROFS)):
        on_disk.export([make_call("u2")])
    assert uuids(disk / "store") == ["u1"]
    mount("-o", "remount,rw", disk)
    assert on_disk.force_flush()
    assert uuids(disk / "store") == ["u1", "u2"]


def test_vanishes(disk: Path, on_disk: StoreExporter, make_call: MakeCall) -> None:
    """A disk that is taken away: rows go to a new store in its place as soon as the loss is seen; none makes trouble."""
    on_disk.export([make_call("u1")])
    subprocess.run(["umount", "-l", disk], check=True)
    assert not (disk / "store").exists()
    on_disk._writer.retire()  # as after thirty seconds: until then rows go to the file that is open
    on_disk.export([make_call("u2")])
    assert on_disk.force_flush()
    assert uuids(disk / "store") == ["u2"]


def test_moved_away(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """When somebody moves the directory, rows follow it until the journal is left, and then a new one is begun."""
    exporter.export([make_call("u1")])
    moved = store.rename(store.with_name("moved"))
    exporter.export([make_call("u2")])
    exporter._writer.retire()
    exporter.export([make_call("u3")])
    assert (uuids(moved), uuids(store)) == (["u1", "u2"], ["u3"])


def test_stalls(store: Path, exporter: StoreExporter, make_call: MakeCall, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk whose sync never ends stops no caller: only the store's own thread waits for it."""
    stalled, release = threading.Event(), threading.Event()

    def hang(fd: int) -> None:
        stalled.set()
        release.wait(60)

    monkeypatch.setattr(journal_module, "_sync_file", hang)
    exporter.export([make_call("first")])
    assert stalled.wait(60)
    slowest = 0.0
    for number in range(500):
        begun = time.perf_counter()
        exporter.export([make_call(f"u{number:03}")])
        slowest = max(slowest, time.perf_counter() - begun)
    assert len(uuids(store)) == 501
    assert exporter.force_flush(100) is False
    release.set()
    assert exporter.force_flush() is True
    assert slowest < 30, "a caller waited for the disk"


def test_refused_sync_is_told(
    store: Path, make_exporter: Make, make_call: MakeCall, monkeypatch: pytest.MonkeyPatch, unraised: None
) -> None:
    """A sync that fails behind the callers' backs is counted, and told to other processes through the store."""
    before = failures.counts().get("syncing the store", 0)
    exporter = make_exporter()
    monkeypatch.setattr(journal_module, "_sync_file", refuse)
    exporter.export([make_call("u1")])
    eventually(lambda: failures.counts().get("syncing the store", 0) > before)
    monkeypatch.undo()
    exporter.shutdown()
    (trouble,) = troubles(Layout(store))
    assert (trouble.kind, trouble.pid) == ("syncing the store", os.getpid())
    assert trouble.last == "OSError: Input/output error"


def test_refused_sync_of_others(make_exporter: Make, make_call: MakeCall, monkeypatch: pytest.MonkeyPatch) -> None:
    """With durability "power", all who waited for a sync that failed are told, though the disk complains only once."""
    exporter = make_exporter(durability="power")
    exporter.export([make_call("before")])
    first, ready, answers = threading.Event(), threading.Event(), []

    def refuse_first(fd: int) -> None:
        if not first.is_set():
            first.set()
            ready.wait(60)
            refuse(fd)

    monkeypatch.setattr(journal_module, "_sync_file", refuse_first)

    def export(uuid: str) -> None:
        try:
            exporter.export([make_call(uuid)])
        except StoreError as error:
            answers.append((uuid, type(error)))
        else:
            answers.append((uuid, None))

    one = threading.Thread(target=export, args=("u1",))
    one.start()
    assert first.wait(60)
    ready.set()
    one.join()
    export("u2")
    assert answers == [("u1", StoreError), ("u2", None)]
    with pytest.raises(StoreError):
        exporter._sync_up_to(2)  # a thread that wrote u1's neighbour and comes for its answer only now


def test_bounded_memory(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """What waits is bounded in bytes; what was dropped is counted, and told to other processes when the disk is back."""
    store.write_text("in the way")
    row = make_call("large", prompt="z" * 900_000)
    for _ in range(50):
        with pytest.raises(StoreError):
            exporter.export([row])
    stats = exporter.stats()
    assert stats["buffered"] * 900_000 <= MAX_BYTES
    assert stats["dropped"] == 50 - stats["buffered"] > 0
    store.unlink()
    assert exporter.force_flush()
    exporter.shutdown()
    assert [(t.kind, t.count) for t in troubles(Layout(store))] == [("rows lost", stats["dropped"])]
