"""A backup is the store at one moment, whatever writes to it meanwhile, and a store like any other."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lmtrace._exporter import Record
from lmtrace_exporters import StoreError, StoreExporter, backup, compact, open_history, verify

MakeCall = Callable[..., Record]


def rows(store: Path) -> list[str]:
    with open_history(store) as history:
        assert not history.problems
        return sorted(uuid for (uuid,) in history.sql("SELECT uuid FROM calls").fetchall())


@pytest.mark.parametrize("link", [True, False])
def test_whole(store: Path, tmp_path: Path, exporter: StoreExporter, make_call: MakeCall, link: bool) -> None:
    """Segments, open journals and payloads are there, and the copy lives on when the source is gone."""
    exporter.export([make_call("segment")])
    exporter.shutdown()
    compact(store)
    later = StoreExporter(store, compaction=False)
    later.export([make_call("journal", messages=[{"role": "user", "content": "x" * (2 << 20)}])])
    report = backup(store, tmp_path / "copy", link=link)
    later.shutdown()
    assert (report.segments, report.journals, report.blobs) == (1, 1, 1)
    shutil.rmtree(store)
    assert rows(tmp_path / "copy") == ["journal", "segment"]
    assert verify(tmp_path / "copy").is_sound
    with open_history(tmp_path / "copy") as history:
        row = history.call("journal")
    assert row is not None
    assert len(row["messages"][0]["content"]) == 2 << 20
    compact(tmp_path / "copy", grace_seconds=0)
    assert rows(tmp_path / "copy") == ["journal", "segment"]


def test_torn_tail(store: Path, tmp_path: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """A line that is being written is not copied."""
    exporter.export([make_call("whole")])
    exporter.shutdown()
    (journal,) = (store / "journal").iterdir()
    with journal.open("ab") as file:
        file.write(b'{"kind":"call","uuid":"half')
    backup(store, tmp_path / "copy")
    (copied,) = (tmp_path / "copy" / "journal").iterdir()
    assert copied.read_bytes().endswith(b"}\n")
    assert rows(tmp_path / "copy") == ["whole"]


def test_beside_everything(
    store: Path, tmp_path: Path, make_call: MakeCall, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """Beside a writer and a compaction without grace, each backup has every row that was there when it began, once."""
    written: list[str] = []
    stop = threading.Event()
    turns = threading.Semaphore(10)  # some writes for each backup: a slow machine shall not have more to do

    def write() -> None:
        for number in itertools.count():
            turns.acquire()
            if stop.is_set():
                return
            exporter = StoreExporter(store, compaction=False)
            exporter.export([make_call(f"{number:06}-{row}") for row in range(5)])
            exporter.shutdown()
            written.extend(f"{number:06}-{row}" for row in range(5))

    def tidy() -> None:
        while not stop.is_set():
            if store.exists():
                compact(store, grace_seconds=0)

    threads = [threading.Thread(target=write), threading.Thread(target=tidy)]
    for thread in threads:
        thread.start()
    try:
        while not written:
            stop.wait(0.01)
        for number in range(8):
            before = list(written)
            turns.release(10)
            target = tmp_path / f"copy{number}"
            backup(store, target)
            found = rows(target)
            assert set(before) <= set(found)
            assert len(found) == len(set(found))
            assert verify(target).is_sound
    finally:
        stop.set()
        turns.release()
        for thread in threads:
            thread.join()


def test_refuses(store: Path, tmp_path: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """A target that exists is not touched, a store that does not exist is no backup, and no draft is left behind."""
    with pytest.raises(StoreError, match="there is no store"):
        backup(store, tmp_path / "copy")
    exporter.export([make_call("u")])
    (tmp_path / "copy").mkdir()
    with pytest.raises(StoreError, match="exists"):
        backup(store, tmp_path / "copy")
    exporter.shutdown()
    compact(store)
    (store / "catalog.sqlite").write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreError, match="rebuild-index"):
        backup(store, tmp_path / "other")
    assert {path.name for path in tmp_path.iterdir()} == {"store", "copy"}
