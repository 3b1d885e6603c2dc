"""Calls in unusual numbers, sizes, orders and times (faults 8, 18, 20, 21, 25-28, 40): answered as without lmtrace, and kept."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from instant import instant_lm, uuid_of

import lmtrace
from lmtrace._failures import failures

Query = Callable[[str], list[tuple[Any, ...]]]


def test_thousand_threads(query: Query) -> None:
    """1,000 threads that begin at once: each has its answers, each call its row."""
    barrier = threading.Barrier(1_000)

    def calls(number: int) -> list[list[Any]]:
        lm = instant_lm()
        barrier.wait()
        return [lm(f"{number}-{turn}") for turn in range(3)]

    with ThreadPoolExecutor(1_000) as pool:
        answers = list(pool.map(calls, range(1_000)))
    assert answers == [[[f"{number}-{turn}"] for turn in range(3)] for number in range(1_000)]
    assert query("SELECT count(*), count(DISTINCT uuid), count(DISTINCT span_id) FROM calls") == [(3_000, 3_000, 3_000)]


def test_thousand_tasks(query: Query) -> None:
    """1,000 tasks of one loop, half of them cancelled: the others have their answers, and no call is told twice."""
    lm = instant_lm()

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(lm.acall(str(number))) for number in range(1_000)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(main())
    assert answers[1::2] == [[str(number)] for number in range(1, 1_000, 2)]
    assert all(
        isinstance(answer, asyncio.CancelledError) or answer == [str(2 * n)] for n, answer in enumerate(answers[::2])
    )
    assert query("SELECT count(*) = count(DISTINCT uuid) FROM calls") == [(True,)]
    assert query("SELECT count(*) >= 500 FROM calls WHERE error_type IS NULL") == [(True,)]


CLOCK = """
import time
real, shift = time.time_ns, [0]
time.time_ns = lambda: real() + shift[0]
time.time = lambda: time.time_ns() / 1e9
import instant
HOUR = 3_600_000_000_000
answer = instant.Instant.complete
def complete(self, request, secrets):
    shift[0] += int(request.messages[-1]["content"]) * HOUR  # during the call
    return answer(self, request, secrets)
instant.Instant.complete = complete
lm = instant.instant_lm()
for hours in (0, -1, 0, 5, -9, 0):
    lm(str(hours))
"""


def test_clock_steps(query: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the clock jumps back or forth amid calls, durations stay right, ids unique, and no row is missing."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path.endswith("programs")))
    subprocess.run([sys.executable, "-W", "error", "-c", CLOCK], check=True, cwd=tmp_path)
    assert query("SELECT count(*), count(DISTINCT uuid), bool_and(duration_ms BETWEEN 0 AND 10000) FROM calls") == [
        (6, 6, True)
    ]


def hostile(do: Callable[[], object]) -> Any:
    """An object all of whose own methods do something."""
    methods = ("repr", "str", "eq", "hash", "bool", "len", "iter", "format", "deepcopy", "copy", "reduce_ex", "sizeof")
    return type("Hostile", (), {f"__{name}__": lambda self, *_: do() for name in methods})()


def test_objects_that_block(query: Query) -> None:
    """Parameters that would hold up for ever whoever looks at them, or change the request, are recorded by their type."""
    lm, seen = instant_lm(), []
    answered = threading.Event()

    def call() -> None:
        never = threading.Event()
        seen.append(lm("a", extra=hostile(never.wait), more=[{"deep": hostile(never.wait)}]))
        mutated = {"word": "as it was"}
        hostile_one = hostile(lambda: mutated.update(word="changed"))
        seen.append(lm("b", extra=[mutated, hostile_one]))
        answered.set()

    threading.Thread(target=call, daemon=True).start()
    assert answered.wait(60), "a call waits for ever"
    assert seen == [["a"], ["b"]]
    rows = query("SELECT kwargs FROM calls ORDER BY timestamp, uuid")
    first, second = (json.loads(kwargs) for (kwargs,) in rows)
    assert [first["extra"]["lossy"], first["more"][0]["deep"]["lossy"]] == [True, True]
    assert second["extra"][0] == {"word": "as it was"}


SUBINTERPRETER = """
import json, sys
from instant import instant_lm
lm = instant_lm()
assert lm("before") == ["before"]
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
run = getattr(interpreters, "exec", None) or interpreters.run_string
inside = interpreters.create()
def errors(code):
    try:
        failed = run(inside, f"import sys; sys.path[:] = {sys.path!r}\\n{code}")
    except interpreters.RunFailedError as error:
        return str(error)
    return "" if failed is None else failed.formatted
said = [errors("import lmtrace; lmtrace.__version__"), errors("import lmtrace; lmtrace.LM('local/instant')")]
interpreters.destroy(inside)
assert lm("after") == ["after"]
print(json.dumps(said))
"""


def test_subinterpreters(query: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing works; an LM cannot be made where orjson refuses, and says so; the main interpreter records as before."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path.endswith("programs")))
    done = subprocess.run(
        [sys.executable, "-c", SUBINTERPRETER], check=True, cwd=tmp_path, capture_output=True, text=True
    )
    imported, made = json.loads(done.stdout)
    assert imported == ""
    assert made == "" or ("ImportError" in made and "does not support loading in subinterpreters" in made)
    assert query("SELECT count(*) FROM calls") == [(2,)]


SWITCHING = """
import sys, threading
sys._is_gil_enabled = lambda: False  # what depends on the GIL must not be taken
sys.setswitchinterval(1e-6)
from instant import instant_lm
lm = instant_lm()
def calls(number):
    for turn in range(100):
        assert lm(f"{number} {turn % 10}") == [f"{number} {turn % 10}"]
threads = [threading.Thread(target=calls, args=(number,)) for number in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
from lmtrace_exporters import _append
assert _append._holding_write is None
"""


def test_without_the_gil(query: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that are switched between any two steps, with nothing that relies on the GIL: each call has its one row.

    The nearest thing to a Python without a GIL where none can be had.
    """
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path.endswith("programs")))
    subprocess.run([sys.executable, "-W", "error", "-c", SWITCHING], check=True, cwd=tmp_path)
    assert query("SELECT count(*), count(DISTINCT uuid), count(DISTINCT span_id) FROM calls") == [(1600, 1600, 1600)]
    assert query("SELECT count(*) FROM calls WHERE json_extract_string(messages, '$[0].content') <> output_text") == [
        (0,)
    ]


TICKING = """
import json, sys, threading, time
import lmtrace, orjson
from instant import Instant
from lmtrace import LMOutput, LMResponse, LMTextPart, LMUsage
long = sys.argv[1] == "asked"
text = "The quick brown fox. " * 5_000_000
answer = "ok"
Instant.complete = lambda *_: LMResponse(
    model="m", outputs=[LMOutput(parts=[LMTextPart(answer)], finish_reason="stop")],
    usage=LMUsage(input_tokens=1, output_tokens=1, total_tokens=2))
lm = lmtrace.LM("local/instant", backend=Instant(), num_retries=0, cache=False)
lm("loads what is needed")
answer = "ok" if long else text

main = time.pthread_getcpuclockid(threading.get_ident())

def longest_gap(work):
    longest, stop = [0.0], threading.Event()
    def tick():
        last = time.clock_gettime(main)
        while not stop.is_set():
            time.sleep(0.001)
            now = time.clock_gettime(main)  # what this thread waits for other programs is nobody's fault
            longest[0], last = max(longest[0], now - last), now
    ticking = threading.Thread(target=tick)
    ticking.start()
    work()
    stop.set()
    ticking.join()
    return longest[0]

def count():
    end = time.thread_time() + 2
    while time.thread_time() < end:
        pass

def call():
    assert lm(text if long else "all of it") == [answer]

begun = time.thread_time()
orjson.dumps(text)
at_once = time.thread_time() - begun
print(json.dumps({"at_once": at_once, "usual": longest_gap(count), "longest": longest_gap(call)}))
"""


@pytest.mark.slow
@pytest.mark.quiet
@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="asks for another thread's time")
@pytest.mark.parametrize("where", ["asked", "answered"])
def test_huge_text(where: str, query: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 MB are kept whole, beside their row, and other threads run on as beside any Python program.

    Keeping an answer for the cache is another matter: it is parsed at once.
    """
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path.endswith("programs")))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TICKING, where], check=True, cwd=tmp_path, capture_output=True, text=True
    )
    gaps = json.loads(done.stdout)
    assert gaps["longest"] < 2 * gaps["usual"] + gaps["at_once"] / 4, "one step of the recording holds the GIL"
    store = Path(os.environ["LMTRACE_STORE"])
    (payload,) = (store / "blobs").iterdir()
    assert payload.read_bytes() == b"The quick brown fox. " * 5_000_000
    assert sum(path.stat().st_size for path in (store / "journal").iterdir()) < 100_000
    assert query("SELECT count(*) FROM calls") == [(2,)]


class Interrupting:
    """An exporter of the user's in which Ctrl-C, or the like, arrives."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def export(self, records: Any) -> None:
        raise self._error

    def force_flush(self, timeout_millis: float = 0) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 0) -> None:
        """Nothing is open."""


class Raising:
    """An exporter of the user's that raises whenever it is asked for something."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def export(self, records: Any) -> None:
        raise self._error

    def force_flush(self, timeout_millis: float = 0) -> bool:
        raise self._error

    def shutdown(self, timeout_millis: float = 0) -> None:
        raise self._error


@pytest.mark.parametrize(
    "error", [ValueError("x"), MemoryError(), RecursionError(), OSError(28, "full"), StopIteration()]
)
def test_exporter_that_raises(error: Exception, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs the call nothing, the store its row nothing, and is counted and logged once."""
    monkeypatch.delenv("LMTRACE_TEST_RAISE")
    before = failures.counts().get("exporting to Raising", 0)
    lmtrace.configure(exporters=[Raising(error)])
    lm = instant_lm()
    assert [lm("a"), lm("b")] == [["a"], ["b"]]
    assert lmtrace.flush(1) is False
    assert lmtrace.stats()["failures"]["exporting to Raising"] == before + 2
    assert query("SELECT count(*) FROM calls") == [(2,)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_exporter_that_interrupts(error: type[BaseException], query: Query) -> None:
    """What is no `Exception` is somebody's wish to stop, and passes; the row is there all the same."""
    lmtrace.configure(exporters=[Interrupting(error())])
    lm = instant_lm()
    with pytest.raises(error):
        lm("a")
    assert query("SELECT count(*) FROM calls") == [(1,)]


def test_call_in_a_finaliser(query: Query) -> None:
    """A call made by a finaliser amid another call is a call like others: no deadlock, both answered."""
    lm = instant_lm()
    lm("first")  # amid that one a call is answered, and not recorded
    answers = []

    class Late:
        def __del__(self) -> None:
            answers.append(lm("from the finaliser"))

    for number in range(200):
        cycle: list[Any] = [Late()]
        cycle.append(cycle)
        del cycle
        assert lm(str(number)) == [str(number)]
    import gc

    gc.collect()
    assert answers == [["from the finaliser"]] * 200
    assert uuid_of(lm)
    assert query("SELECT count(*) FROM calls") == [(401,)]


def test_doctor_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    """What went wrong in a program is in `lmtrace.stats()` there, and `lmtrace doctor` tells of it afterwards."""
    monkeypatch.delenv("LMTRACE_TEST_RAISE")
    lmtrace.configure(exporters=[Raising(OSError(28, "No space left on device"))])
    lm = instant_lm()
    for _ in range(3):
        lm("a")
    assert lmtrace.stats()["last_failures"]["exporting to Raising"] == "OSError: No space left on device"
    lmtrace.shutdown()
    done = subprocess.run(
        [sys.executable, "-m", "lmtrace", "doctor", "--json"], check=True, capture_output=True, text=True
    )
    (told,) = [
        line["message"]
        for line in map(json.loads, done.stdout.splitlines())
        if "exporting to Raising" in line["message"]
    ]
    assert "exporting to Raising (OSError: No space left on device): " in told
    assert f"process {os.getpid()}" in told


AMID = """
import asyncio, json, os, sys, traceback
import lmtrace
from instant import Instant, instant_lm
lm, other = instant_lm(), lmtrace.LM("local/other", backend=Instant(), num_retries=0, cache=False)
nested, places, inside, armed = [], set(), False, True

def handler(event, arguments):
    # where a signal handler or a finaliser may be called: at any step, and so at these
    global inside
    if not armed or inside or event not in ("import", "exec", "compile", "open", "sqlite3.connect", "os.mkdir", "os.rename"):
        return
    stack, frame = set(), sys._getframe(1)
    while frame:
        stack.add(frame.f_code.co_name)
        frame = frame.f_back
    places.update(stack)
    if "can_record" not in places:
        return  # what comes before it is a first call itself
    inside = True
    text = str(len(nested))
    nested.append(text)
    try:
        ask(text)
    except BaseException:
        traceback.print_exc()
        os._exit(3)
    inside = False

def ask(text):
    assert lm(text) == [text]
    if len(nested) % 5 == 1:
        assert other(text) == [text]
        assert list(other.stream(text)) == list(text)
        if not asyncio._get_running_loop():
            asyncio.run(atwin(text))

async def atwin(text):
    assert await other.acall(text) == [text]

sys.addaudithook(handler)
assert lm("the first call") == ["the first call"]
armed = False
assert lm("afterwards") == ["afterwards"]
assert other("afterwards") == ["afterwards"]
assert lm("0") == ["0"]
assert lmtrace.flush(60)
assert len(lm.history) == len(nested) + 3
print(json.dumps([len(nested), sorted(places), lmtrace.stats()["failures"]]))
"""


def test_calls_amid_the_first_call(query: Query, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls made by a finaliser or a signal handler while the first call loads what it needs: answered, at worst counted."""
    monkeypatch.delenv("LMTRACE_TEST_RAISE")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path.endswith("programs")))
    done = subprocess.run([sys.executable, "-c", AMID], check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made, places, failed = json.loads(done.stdout)
    assert made > 50
    assert {"can_record", "build"} <= set(places)
    assert set(failed) <= {"recording a call made amid the first one"}, done.stderr
    texts = "SELECT json_extract_string(messages, '$[0].content') FROM calls"
    assert query(f"SELECT count(*) FROM ({texts}) t(text) WHERE text IN ('the first call', 'afterwards')") == [(3,)]
    assert query("SELECT count(*) = count(DISTINCT uuid) FROM calls") == [(True,)]
