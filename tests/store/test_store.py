"""What `export` promises: rows of dead, forked, killed and starved processes are there, and failures are told."""

from __future__ import annotations

import errno
import gc
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lmtrace._exporter import Record
from lmtrace_exporters import StoreError, StoreExporter, compact, open_history
from lmtrace_exporters import _journal as journal_module
from lmtrace_exporters._locks import hold_lock

Make = Callable[..., StoreExporter]
MakeCall = Callable[..., Record]


def uuids(store: Path) -> list[str]:
    with open_history(store) as history:
        assert not history.problems
        return sorted(uuid for (uuid,) in history.sql("SELECT uuid FROM calls").fetchall())


def journals(store: Path) -> list[Path]:
    return sorted((store / "journal").iterdir())


def is_closed(journal: Path) -> bool:
    with hold_lock(journal) as free:
        return free


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until background work is done; the deadline is far behind what it needs."""
    tick, deadline = threading.Event(), 3_000
    while not condition():
        deadline -= 1
        assert deadline, "it did not happen within a minute"
        tick.wait(0.02)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("durability", ["process", "power", "none"])
def test_visible_at_once(store: Path, make_exporter: Make, make_call: MakeCall, durability: str) -> None:
    """At every durability a row can be queried as soon as `export` returned."""
    exporter = make_exporter(durability=durability)
    exporter.export([make_call("u1"), make_call("u2")])
    assert uuids(store) == ["u1", "u2"]
    assert exporter.force_flush()


def test_unknown_durability(store: Path) -> None:
    """An unknown durability is refused by name."""
    with pytest.raises(ValueError, match="'process', 'power' or 'none', not 'proces'"):
        StoreExporter(store, durability="proces")  # type: ignore[arg-type]


def test_one_locked_journal(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """A process has one journal, locked while it is open and free when it is closed."""
    for number in range(10):
        exporter.export([make_call(f"u{number}")])
    (journal,) = journals(store)
    assert not is_closed(journal)
    exporter.shutdown()
    assert is_closed(journal)


def test_rolls_by_size(store: Path, make_exporter: Make, make_call: MakeCall) -> None:
    """A journal that reached its size is left and closed, without anybody flushing."""
    exporter = make_exporter(roll_bytes=1_000)
    for number in range(10):
        exporter.export([make_call(f"u{number}")])
    assert len(journals(store)) > 1
    eventually(lambda: sum(not is_closed(journal) for journal in journals(store)) <= 1)
    assert len(uuids(store)) == 10


def test_idle_journal_closes(store: Path, make_exporter: Make, make_call: MakeCall) -> None:
    """A journal that got old is closed although nothing is written any more, and its thread ends."""
    exporter = make_exporter(roll_seconds=0.05)
    exporter.export([make_call("u1")])
    eventually(lambda: all(is_closed(journal) for journal in journals(store)))
    eventually(lambda: not exporter._background.is_alive)
    exporter.export([make_call("u2")])
    assert uuids(store) == ["u1", "u2"]


def test_fork(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """A forked child writes its own journal; neither it nor its end touches the parent's."""
    exporter.export([make_call("u0")])
    (parents,) = journals(store)
    if not (child := os.fork()):
        try:
            exporter.export([make_call("u1")])
            assert is_closed(parents) is False
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    exporter.export([make_call("u2")])
    assert not is_closed(parents)
    assert len(journals(store)) == 2
    assert uuids(store) == ["u0", "u1", "u2"]


def test_fork_frees_lock(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """A child that outlives its parent's journal does not keep its lock."""
    exporter.export([make_call("u0")])
    reading, writing = os.pipe()
    ready, done = os.pipe()
    if not (child := os.fork()):
        os.close(writing)
        os.write(done, b"!")
        os.read(reading, 1)
        os._exit(0)
    os.read(ready, 1)
    exporter.shutdown()
    assert is_closed(journals(store)[0])
    os.close(writing)
    os.waitpid(child, 0)
    for fd in (reading, ready, done):
        os.close(fd)


def test_fork_amid_writes(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """Forking while threads write leaves parent and children able to write, and no row twice."""
    stop = threading.Event()

    def write(thread: int) -> None:
        number = 0
        while not stop.is_set():
            exporter.export([make_call(f"t{thread}-{number}")])
            number += 1

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    children = []
    for number in range(10):
        if not (child := os.fork()):
            exporter.export([make_call(f"c{number}")])
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 10
    stop.set()
    for thread in threads:
        thread.join()
    found = uuids(store)
    assert len(found) == len(set(found)) == exporter.stats()["written"] + 10


@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 15)", "os.kill(os.getpid(), 9)", "pass"])
def test_abrupt_end(store: Path, end: str) -> None:
    """However a process ends after `export` returned, its row is there."""
    code = (
        "import os; from lmtrace._exporter import Record; from lmtrace_exporters import StoreExporter\n"
        f'StoreExporter({os.fspath(store)!r}).export([Record(\'call\', b\'{{"kind":"call","uuid":"u1"}}\')])\n{end}'
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=False)
    assert uuids(store) == ["u1"]


def test_interpreter_shutdown(store: Path) -> None:
    """A row that is written while the interpreter shuts down, when no thread can be started, is there."""
    code = (
        "import atexit, sys; from lmtrace._exporter import Record; from lmtrace_exporters import StoreExporter\n"
        "exporter = StoreExporter(sys.argv[1])\n"
        "class Late:\n"
        "    def __del__(self):\n"
        '        exporter.export([Record(\'call\', b\'{"kind":"call","uuid":"u2"}\')])\n'
        "def end():\n"
        '    exporter.export([Record(\'call\', b\'{"kind":"call","uuid":"u1"}\')])\n'
        "    exporter.force_flush()\n"
        "atexit.register(end)\n"
        "late = Late()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, store], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert uuids(store) == ["u1", "u2"]


def test_short_write(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """A write cut short leaves the whole rows before it, and the torn one is written again in a new journal."""
    exporter.export([make_call("u0")])
    size = journals(store)[0].stat().st_size
    with file_size_limit(int(size * 2.5)):
        exporter.export([make_call("u1"), make_call("u2")])
    exporter.export([make_call("u3")])
    assert uuids(store) == ["u0", "u1", "u2", "u3"]
    assert len(journals(store)) == 2


def test_full_disk(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """A disk that takes nothing makes `export` raise; the rows wait, and are written when it takes them again."""
    exporter.export([make_call("u0")])
    with file_size_limit(1):
        for number in (1, 2):
            with pytest.raises(StoreError, match=r"cannot write to .*store.*records wait in memory"):
                exporter.export([make_call(f"u{number}")])
        assert exporter.stats()["buffered"] == 2
        assert not exporter.force_flush()
    assert exporter.force_flush()
    assert uuids(store) == ["u0", "u1", "u2"]
    stats = exporter.stats()
    assert (stats["written"], stats["buffered"], stats["dropped"]) == (3, 0, 0)
    assert f"cannot write to {store}" in stats["last_error"]


def test_really_full_disk(tmp_path: Path, make_call: MakeCall) -> None:
    """On a file system without room: the rows that fit are there, the others wait, and come when there is room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=256k", "lmtrace", disk], check=False).returncode
    ):
        pytest.skip("mounting a small file system needs more rights")
    try:
        (disk / "ballast").write_bytes(b"x" * 150_000)
        exporter = StoreExporter(disk / "store", compaction=False)
        failed = 0
        for number in range(30):
            try:
                exporter.export([make_call(f"u{number:02}", prompt="x" * 5_000)])
            except StoreError:
                failed += 1
        stats = exporter.stats()
        assert failed == stats["buffered"] == 30 - stats["written"]
        assert 0 < failed < 30
        assert uuids(disk / "store") == [f"u{number:02}" for number in range(stats["written"])]
        (disk / "ballast").unlink()
        assert exporter.force_flush()
        assert len(uuids(disk / "store")) == 30
        exporter.shutdown()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_full_backlog(exporter: StoreExporter, make_call: MakeCall) -> None:
    """What finds no room in memory either is counted, and the message says so."""
    with file_size_limit(1):
        with pytest.raises(StoreError, match="1 were dropped"):
            exporter.export([make_call(str(number)) for number in range(10_001)])
        assert exporter.stats()["dropped"] == 1
    assert exporter.force_flush()
    assert exporter.stats()["written"] == 10_000


def test_retries_by_itself(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """Rows that wait are written without another `export` or flush."""
    with file_size_limit(1), pytest.raises(StoreError):
        exporter.export([make_call("u1")])
    eventually(lambda: exporter.stats()["buffered"] == 0)
    assert uuids(store) == ["u1"]


def test_unusable_path(tmp_path: Path, make_call: MakeCall) -> None:
    """A store that cannot be made is an error that names it, at the first record and not before."""
    (tmp_path / "file").write_text("")
    exporter = StoreExporter(tmp_path / "file" / "store")
    with pytest.raises(StoreError, match="file/store"):
        exporter.export([make_call("u1")])
    exporter.shutdown()


def test_deleted_store(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """When somebody deletes the directory, a new one is begun."""
    exporter.export([make_call("u1")])
    shutil.rmtree(store)
    eventually(lambda: exporter.force_flush() and exporter._writer.current is None)
    exporter.export([make_call("u2")])
    assert uuids(store) == ["u2"]


def test_no_descriptors(exporter: StoreExporter, make_call: MakeCall) -> None:
    """A process without a free descriptor keeps its rows in memory until there is one."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(StoreError, match=os.strerror(errno.EMFILE)):
            exporter.export([make_call("u1")])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert exporter.force_flush()
    assert exporter.stats()["written"] == 1


def test_failing_sync(
    store: Path, exporter: StoreExporter, make_call: MakeCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush whose sync fails says no, and says why."""

    def refuse(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(journal_module, "_sync_file", refuse)
    exporter.export([make_call("u1")])
    assert not exporter.force_flush()
    assert os.strerror(errno.EIO) in exporter.stats()["last_error"]
    with pytest.raises(StoreError, match=os.strerror(errno.EIO)):
        StoreExporter(store, durability="power", compaction=False).export([make_call("u2")])
    monkeypatch.undo()


def test_hanging_sync(exporter: StoreExporter, make_call: MakeCall, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush keeps its deadline though the disk hangs, and says no."""
    release = threading.Event()
    monkeypatch.setattr(journal_module, "_sync_file", lambda _: release.wait(60))
    exporter.export([make_call("u1")])
    assert exporter.force_flush(50) is False
    release.set()
    assert exporter.force_flush() is True


def test_interrupted_append(store: Path, exporter: StoreExporter, make_call: MakeCall) -> None:
    """A finaliser or a signal handler that exports in the middle of an export neither deadlocks nor loses a row."""
    before = signal.signal(signal.SIGALRM, lambda *_: exporter.export([make_call("signal")]))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for number in range(2_000):
            exporter.export([make_call(f"u{number}")])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    exporter.force_flush()
    with open_history(store) as history:
        assert history.sql("SELECT count(DISTINCT uuid) FROM calls").fetchall() == [(2_001,)]
        assert history.sql("SELECT count(*) FROM calls").fetchall() == [(exporter.stats()["written"],)]


def test_closed(exporter: StoreExporter, make_call: MakeCall) -> None:
    """After shutdown a record is an error; shutting down twice is not."""
    exporter.shutdown()
    exporter.shutdown()
    with pytest.raises(StoreError, match="closed"):
        exporter.export([make_call("u1")])


def test_two_writers_one_reader(store: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """Two processes write while a third reads: it never sees a row twice, and never fewer than before."""
    reader = start("reader.py", store)
    writers = [start("writer.py", store, number, 4, 500, 300, stdout=subprocess.DEVNULL) for number in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    reader.communicate(input="")
    assert reader.returncode == 0
    assert len(set(uuids(store))) == len(uuids(store)) == 4_000


def test_compaction_starts(store: Path, make_exporter: Make, make_call: MakeCall) -> None:
    """Closing a store with many journals starts a compaction in a process of its own; a small store has none."""
    for number in range(3):
        make_exporter(compaction=True).export([make_call(f"small{number}")])
    for number in range(64):
        one = make_exporter()
        one.export([make_call(f"u{number}")])
        one.shutdown()
    assert not (store / "compact.lock").exists()
    last = make_exporter(compaction=True)
    last.export([make_call("last")])
    last.shutdown()
    eventually(lambda: len(list(store.glob("segments/*/*.parquet"))) == 1)
    eventually(lambda: not (store / "staging").exists() or compact(store).ran)
    assert len(uuids(store)) == 68


def test_a_draft_that_was_taken_away(store: Path, make_call: MakeCall, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compaction without grace may take a journal that is being made for a dead process's; the row is written all the same."""
    exporter, lock, taken = StoreExporter(store, compaction=False), journal_module.try_lock, []

    def compact_first(fd: int) -> bool:
        if not taken:
            taken.extend((store / "journal").glob("*.tmp"))
            compact(store, grace_seconds=0)
        return lock(fd)

    monkeypatch.setattr(journal_module, "try_lock", compact_first)
    exporter.export([make_call("u")])
    exporter.shutdown()
    assert len(taken) == 1
    assert not taken[0].exists()
    assert uuids(store) == ["u"]
