"""The index on the disk: shared by processes, derived from the rows, and never a reason for a call to fail."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tellers import Teller

import lmtrace
from lmtrace import _caching
from lmtrace._failures import failures
from lmtrace.testing import LoopbackProvider
from lmtrace_replay._index import TABLE, Index
from lmtrace_replay._open_cache import open_index
from lmtrace_replay._rebuild import rebuild


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def path(store: Path) -> Path:
    return store / "index.sqlite"


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, int]]:
    """Our own failures are counted, as for a user, and not raised; gives the counts since now."""
    monkeypatch.delenv("LMTRACE_TEST_RAISE")
    before = failures.counts()
    return lambda: {
        kind: count - before.get(kind, 0) for kind, count in failures.counts().items() if count != before.get(kind)
    }


def new_process() -> None:
    """Forget everything but the disk."""
    lmtrace.shutdown()


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def filled(path: Path, count: int, **options: Any) -> Index:
    """An index with `count` entries, made at the times 1, 2, 3 and so on."""
    index = Index(path, **({"max_bytes": 1 << 30} | options))
    for number in range(1, count + 1):
        index.put(key(number), b"value %d" % number, number)
    return index


def numbers_in(index: Index, count: int) -> list[int]:
    return [number for number in range(1, count + 1) if index.get(key(number)) is not None]


class TestEntries:
    def test_put_and_get(self, path: Path) -> None:
        """An entry comes back with its time; what is not there is None, and so is everything before the first write."""
        index = Index(path, max_bytes=1 << 30)
        assert index.get(key(1)) is None
        assert not path.exists()
        index.put(key(1), b"one", 11)
        assert index.get(key(1)) == (11, b"one")
        assert index.get(key(2)) is None
        index.close()

    def test_the_first_one_stays(self, path: Path) -> None:
        """Processes that have both asked give the same answer afterwards."""
        index = filled(path, 1)
        index.put(key(1), b"other", 99)
        assert index.get(key(1)) == (1, b"value 1")
        index.close()

    def test_expired_ones_are_replaced(self, path: Path) -> None:
        """An entry past its time counts no more, and makes room for a new one."""
        now = [100]
        index = filled(path, 1, ttl_ns=50, time_ns=lambda: now[0])
        assert index.get(key(1)) is None
        index.put(key(1), b"new", 90)
        assert index.get(key(1)) == (90, b"new")
        index.close()

    def test_the_oldest_go_first(self, path: Path) -> None:
        """An index that is too large loses its oldest entries until it fits."""
        index = Index(path, max_bytes=400_000)
        for number in range(1, 1_001):
            index.put(key(number), b"x" * 1_000, number)
        left = numbers_in(index, 1_000)
        assert left == list(range(left[0], 1_001))
        assert 200 < len(left) < 500
        index.close()

    def test_another_connection_sees_it(self, path: Path) -> None:
        """What one has written, the next look of any other finds."""
        writer, reader = filled(path, 1), Index(path, max_bytes=1 << 30)
        assert reader.get(key(2)) is None
        writer.put(key(2), b"two", 2)
        assert reader.get(key(2)) == (2, b"two")
        writer.close()
        reader.close()

    def test_a_damaged_value(self, path: Path) -> None:
        """A value that is not what was written is none, and is replaced."""
        index = filled(path, 1)
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(f"UPDATE {TABLE} SET value = CAST(replace(value, 'value', 'other') AS BLOB)")
        assert index.get(key(1)) is None
        index.put(key(1), b"again", 5)
        assert index.get(key(1)) == (5, b"again")
        index.close()

    def test_threads(self, path: Path) -> None:
        """Threads that write and read at once lose nothing."""
        index = Index(path, max_bytes=1 << 30)

        def work(start: int) -> None:
            for number in range(start, 400, 8):
                index.put(key(number), b"x", number + 1)
                index.get(key(number // 2))

        threads = [threading.Thread(target=work, args=(start,)) for start in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert index.flush()
        assert index.figures().entries == 400
        index.close()


class TestTrouble:
    def test_a_busy_database(self, path: Path) -> None:
        """A write that finds the database locked waits for the next one, and no call waits long."""
        index = filled(path, 1)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            index.put(key(2), b"two", 2)
            assert index.get(key(1)) is not None
            assert index.get(key(2)) is None
            other.execute("ROLLBACK")
        index.put(key(3), b"three", 3)
        assert numbers_in(index, 3) == [1, 2, 3]
        index.close()

    def test_nothing_waits_at_the_end(self, path: Path) -> None:
        """What still waits is written when the process ends."""
        teller = Teller()
        teller.lm()("one")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            teller.lm()("two")
            other.execute("ROLLBACK")
        new_process()
        with closing(Index(path, max_bytes=1 << 30)) as index:
            assert index.figures().entries == 2

    @pytest.mark.parametrize("content", [b"this is no database" * 100, b"", b"SQLite format 3\0" + b"\xff" * 5_000])
    def test_a_damaged_database(self, path: Path, content: bytes, lenient: Any) -> None:
        """Calls go on; a new index is begun, and serves from then on."""
        path.parent.mkdir()
        path.write_bytes(content)
        teller = Teller()
        for _ in range(2):
            teller.lm()("hi")
        new_process()
        Teller().lm()("two")
        new_process()
        teller.lm()("two")
        assert len(teller.requests) == 1
        assert set(lenient()) <= {"reading the cache", "writing the cache index"}

    def test_damaged_while_in_use(self, path: Path, lenient: Any) -> None:
        """A database that goes bad under a running program costs it the cache for a moment, and no call."""
        for number in range(50):
            Teller().lm()(f"question {number}")
        lmtrace.configure(cache_memory_entries=0)
        Teller().lm()("question 0")
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(4_096)
            file.write(b"\xff" * (size - 4_096))
        teller = Teller()
        for number in range(50):
            teller.lm()(f"question {number}")
        asked = len(teller.requests)
        for number in range(50):
            teller.lm()(f"question {number}")
        assert asked > 0
        assert len(teller.requests) - asked <= 1
        assert lenient()

    def test_removed_while_in_use(self, path: Path) -> None:
        """When somebody deletes the index, a running program begins a new one."""
        lm = Teller().lm()
        lm("one")
        for file in path.parent.glob("index.sqlite*"):
            file.unlink()
        lm("two")
        new_process()
        with closing(Index(path, max_bytes=1 << 30)) as index:
            assert index.figures().entries == 1

    def test_another_version(self, path: Path) -> None:
        """A database of another version is used beside it, and left as it is."""
        path.parent.mkdir()
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("CREATE TABLE answers_lm9_7 (anything)")
            db.execute("INSERT INTO answers_lm9_7 VALUES ('kept')")
        Teller().lm()("hi")
        new_process()
        teller = Teller()
        teller.lm()("hi")
        assert not teller.requests
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT * FROM answers_lm9_7").fetchall() == [("kept",)]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_cannot_be_written(self, store: Path, lenient: Any) -> None:
        """The call succeeds, and memory serves."""
        store.mkdir(mode=0o500)
        teller = Teller()
        for _ in range(2):
            teller.lm()("hi")
        assert len(teller.requests) == 1

    def test_no_place_for_the_index(self, store: Path, lenient: Any) -> None:
        """Where the index cannot be made, calls succeed, memory serves, and the failure is counted."""
        (store / "index.sqlite").mkdir(parents=True)
        teller = Teller()
        for _ in range(2):
            teller.lm()("hi")
        assert len(teller.requests) == 1
        assert "writing the cache index" in lenient()

    def test_a_full_disk(self, path: Path, lenient: Any) -> None:
        """An index that cannot grow keeps what it has, and calls succeed."""
        Teller().lm()("one")
        with_room = Teller()
        limit = path.stat().st_size + 200_000

        def fail(*_: Any) -> Any:
            raise sqlite3.OperationalError("database or disk is full")

        cache: Any = _caching.current()
        cache.index._write, kept = fail, cache.index._write
        with_room.lm()("two")
        cache.index._write = kept
        with_room.lm()("two")
        assert len(with_room.requests) == 1
        assert lenient() == {"writing the cache index": 1}
        assert path.stat().st_size < limit


PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv[1])
from tellers import Teller

class Told(Teller):
    def _taken(self, request):
        os.write(log, b".")
        return super()._taken(request)

log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
lm = Told().lm()
for number in range(int(sys.argv[3])):
    lm(f"question {number}")
"""


class Programs:
    """Starts programs that ask questions; `asked` is how often their provider was asked by all of them."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def start(self, count: int) -> subprocess.Popen[str]:
        folder = str(Path(__file__).parent)
        return subprocess.Popen([sys.executable, "-c", PROGRAM, folder, str(self.log), str(count)], text=True)

    def run(self, count: int) -> None:
        assert self.start(count).wait(60) == 0

    @property
    def asked(self) -> int:
        return self.log.stat().st_size


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path / "asked")


class TestProcesses:
    def test_a_second_program(self, programs: Programs) -> None:
        """A program that runs a second time asks nobody."""
        programs.run(5)
        programs.run(5)
        assert programs.asked == 5

    @pytest.mark.slow
    def test_answers_need_no_litellm(self) -> None:
        """A program whose answers are all kept does not import LiteLLM; one that asks has imported it before the call is timed."""
        code = "import lmtrace, sys; lm = lmtrace.LM('openai/gpt-4o-mini'); print(lm('a')); "
        code += "print('litellm' in sys.modules, lm.history[-1].served_by)"
        with LoopbackProvider() as provider:
            environ = os.environ | {"OPENAI_BASE_URL": provider.openai_base, "OPENAI_API_KEY": "any"}
            said = [
                subprocess.check_output([sys.executable, "-c", code], text=True, env=environ).splitlines()[-1]
                for _ in range(2)
            ]
        assert said == ["True provider", "False cache"]

    def test_entries_of_a_running_program(self, programs: Programs) -> None:
        """What another process has just got, this one need not ask for, though it has looked before."""
        teller = Teller()
        teller.lm()("something else")
        programs.run(1)
        assert teller.lm().forward("question 0").cache_hit
        assert len(teller.requests) == 1

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    @pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
    def test_forked_children(self, path: Path) -> None:
        """Forked children use the index and the memory, and the parent's connection stays sound."""
        teller = Teller()
        lm = teller.lm()
        lm("before")
        context = multiprocessing.get_context("fork")

        def child(number: int) -> None:
            assert lm.forward("before").cache_hit
            lm(f"child {number}")
            assert lm.forward(f"child {number}").cache_hit

        children = [context.Process(target=child, args=(number,)) for number in range(4)]
        for process in children:
            process.start()
        for process in children:
            process.join(60)
        assert [process.exitcode for process in children] == [0] * 4
        lm("after")
        assert all(lm.forward(f"child {number}").cache_hit for number in range(4))
        assert len(teller.requests) == 2

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    @pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
    def test_forked_while_asking(self) -> None:
        """A child forked while a thread of the parent asks does not wait for that thread."""
        teller = Teller(gate=threading.Event())
        lm = teller.lm()
        thread = threading.Thread(target=lm, args=("hi",))
        thread.start()
        assert teller.entered.acquire(timeout=60)
        context = multiprocessing.get_context("fork")

        def child() -> None:
            assert teller.gate is not None
            teller.gate = None
            assert lm.forward("hi").cache_hit is False

        process = context.Process(target=child)
        process.start()
        process.join(60)
        assert process.exitcode == 0
        teller.gate.set()  # type: ignore[union-attr]
        thread.join(60)

    @pytest.mark.slow
    def test_many_processes(self, path: Path, programs: Programs) -> None:
        """Eight programs with the same 200 questions at once: the index has each once, and a ninth asks nobody."""
        started = [programs.start(200) for _ in range(8)]
        assert [program.wait(150) for program in started] == [0] * 8
        asked = programs.asked
        programs.run(200)
        assert programs.asked == asked
        with closing(Index(path, max_bytes=1 << 30)) as index:
            assert index.figures().entries == 200


class TestRebuild:
    def rebuilt(self, store: Path) -> int:
        """Remove the index and make it again; how many rows had an answer."""
        new_process()
        for file in store.glob("index.sqlite*"):
            file.unlink()
        with closing(Index(store / "index.sqlite", max_bytes=1 << 30)) as index:
            return rebuild(store, index)

    @pytest.mark.parametrize("compacted", [False, True])
    def test_from_rows(self, store: Path, compacted: bool) -> None:
        """A lost index is made again from journals and segments: answers, rollouts, names, and pieces of streams."""
        teller = Teller("one", "two", "three four", "five")
        lm = teller.lm(temperature=1.0)
        lm("a")
        lm("a", rollout_id=7)
        list(lm.stream("b"))
        Teller("other", name="other").lm(temperature=1.0)("a")
        lm("a")
        new_process()
        if compacted:
            from lmtrace_exporters import compact

            assert compact(store).ran
        assert self.rebuilt(store) == 4
        again = Teller()
        lm = again.lm(temperature=1.0)
        assert lm("a") == ["one"]
        assert lm("a", rollout_id=7) == ["two"]
        assert list(lm.stream("b")) == ["three", " four"]
        assert Teller(name="other").lm(temperature=1.0)("a") == ["other"]
        assert not again.requests

    def test_only_what_was_allowed(self, store: Path) -> None:
        """Rows of calls with cache=False, of nameless backends, of failures and of broken streams give no entry."""
        Teller().lm()("a", cache=False)
        Teller(name=None).lm()("b")
        with pytest.raises(lmtrace.LMError):
            Teller(ValueError("no")).lm()("c")
        with Teller("one two").lm().stream("d") as stream:
            next(stream)
        assert self.rebuilt(store) == 0

    def test_nothing_redacted(self, store: Path) -> None:
        """A row whose answer lost a credential, or may have been changed by a redactor of the user's, gives no entry."""
        key = "sk-test-9f8e7d6c5b4a39281706"
        Teller(f"it is {key}").lm(api_key=key)("a")
        lmtrace.configure(redact=["Paris"])
        Teller("Paris").lm()("b")
        Teller("Rome").lm()("c")
        assert self.rebuilt(store) == 0

    def test_a_custom_name_of_the_rows(self) -> None:
        """The column says under which name an answer may be given again."""
        Teller(name="mine").lm()("a")
        Teller(name="mine").lm()("b", cache=False)
        with lmtrace.history() as history:
            assert history.sql("SELECT cache_name FROM calls ORDER BY timestamp").fetchall() == [("mine",), (None,)]

    def test_begun_by_itself(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A program that finds no index in a store with older rows has one made beside it."""
        from lmtrace_replay import _open_cache, _rebuild

        started: list[Path] = []
        monkeypatch.setattr(_rebuild, "start", started.append)
        index = open_index(store)
        index.put(key(1), b"x", 1)
        assert not started
        index.close()
        for file in store.glob("index.sqlite*"):
            file.unlink()
        Teller().lm()("hi")
        new_process()
        for file in store.glob("index.sqlite*"):
            file.unlink()
        monkeypatch.setattr(_open_cache, "_STARTED", 1e12)
        Teller().lm()("ho")
        assert started == [store]

    def test_in_a_process_of_its_own(self, store: Path) -> None:
        """The rebuilding program fills the index beside whoever uses it."""
        Teller("one").lm()("a")
        new_process()
        for file in store.glob("index.sqlite*"):
            file.unlink()
        command = [sys.executable, "-m", "lmtrace_replay._rebuild", str(store)]
        subprocess.run(command, check=True, timeout=200)
        assert Teller().lm()("a") == ["one"]


def test_memory_of_the_process(path: Path) -> None:
    """A look-up keeps no more in memory than SQLite's own small cache."""
    index = Index(path, max_bytes=1 << 30)
    index.put_many((number, key(number), b"\0\0\0\0" + b"x" * 200) for number in range(20_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(0, 20_000, 7):
        index.get(key(number))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
    index.close()
