"""Whichever change on the disk fails, is cut short or is the process's last: what was acknowledged is there, once and whole.

A session of the store runs again and again; the n-th time its n-th write, sync, rename, open, truncation or deletion
below the store fails. SQLite's and DuckDB's count like our own: a preloaded library stands below all of them.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lmtrace_exporters import compact, open_history

PROGRAMS = Path(__file__).parent / "programs"

FAIL_ONCE, FAIL_ON, KILL, CUT, DENY = 1, 2, 3, 4, 5
HOW = {
    "EIO once": (FAIL_ONCE, errno.EIO),
    "ENOSPC from then on": (FAIL_ON, errno.ENOSPC),
    "kill": (KILL, 0),
    "half a write": (CUT, 0),
    "EIO, though it was done": (DENY, errno.EIO),
}
"""What happens at the n-th operation."""

SAMPLE = 2
"""How many places a quick test tries."""

STRIDE = int(os.environ.get("FAULTS_STRIDE", "3"))
"""A slow test tries every third place, beginning with any of the first three; `FAULTS_STRIDE=1` makes that every place."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="preloading a library is done as on Linux")


@dataclass(frozen=True, slots=True)
class Session:
    """What a session said until its end."""

    status: int
    said: list[str]

    def all(self, word: str) -> list[str]:
        return [line.removeprefix(f"{word} ") for line in self.said if line.startswith(f"{word} ")]

    @property
    def operations(self) -> int:
        return int(self.all("count")[0])


Run = Callable[..., Session]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes operations fail."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    path = tmp_path_factory.mktemp("faulty") / "faulty.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", path, PROGRAMS / "faulty.c", "-ldl"], check=True)
    return path


@pytest.fixture(scope="module")
def sessions(library: Path) -> Iterator[subprocess.Popen[str]]:
    """The process whose forks are the sessions."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LMTRACE_")}
    command = [sys.executable, "-W", "error", PROGRAMS / "faulty.py"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**environment, "LD_PRELOAD": os.fspath(library)},
    )  # fmt: skip
    yield process
    process.communicate()


@pytest.fixture
def run(sessions: subprocess.Popen[str], store: Path) -> Run:
    """Run a session on the test's store, which is made anew, with something happening at its n-th operation."""
    assert sessions.stdin is not None
    assert sessions.stdout is not None
    orders, answers = sessions.stdin, sessions.stdout

    def ask(session: str, number: int, how: str = "EIO once") -> Session:
        shutil.rmtree(store, ignore_errors=True)
        mode, code = HOW[how]
        order = {"session": session, "store": os.fspath(store), "number": number, "how": mode, "code": code}
        orders.write(json.dumps(order) + "\n")
        orders.flush()
        return Session(**json.loads(answers.readline()))

    return ask


def places(run: Run, session: str, *, every: bool) -> list[int]:
    """Numbers of operations of a session; threads make their count a little uncertain."""
    count = run(session, 1_000_000).operations
    return (
        list(range(random.randint(1, STRIDE), count + 4, STRIDE)) if every else random.sample(range(1, count), SAMPLE)
    )


def found(store: Path) -> tuple[list[str], str]:
    """The rows, each whole, and what the history complains about."""
    with open_history(store) as history:
        rows = history.sql("SELECT uuid, messages, model FROM calls").fetchall()
        problems = "\n".join(map(str, history.problems))
    for uuid, messages, model in rows:
        text = json.loads(messages)[0]["content"]
        assert model == "m"
        assert not isinstance(text, str) or text.replace(f"{uuid} ", "") == "", uuid
    uuids = [uuid for uuid, _, _ in rows]
    assert len(uuids) == len(set(uuids))
    return uuids, problems


def check_files(store: Path) -> None:
    """Every Parquet file with a final name is a whole one, for whoever reads the folder."""
    import duckdb

    for path in store.glob("s*/*/*.parquet"):
        if not store.joinpath("quarantine", path.relative_to(store).as_posix().replace("/", "_")).exists():
            duckdb.sql(f"SELECT * FROM '{path}'").fetchall()


def check_written(store: Path, ended: Session) -> None:
    """What was acknowledged is there, what was not is there or was said to be lost."""
    exported, acknowledged = set(ended.all("export")), set(ended.all("ack"))
    for _ in range(2):
        uuids, problems = found(store)
        assert acknowledged <= set(uuids) <= exported
        assert not problems
        if ended.all("flush")[-2:] == ["True", "True"] and ended.all("left") == ["0 0", "0 0"]:
            assert set(uuids) == exported
        compact(store, grace_seconds=0)
        check_files(store)
    assert not list(store.glob("journal/*"))


def check_compacted(store: Path, ended: Session) -> None:
    """No row is lost before, while or after the work is done again."""
    check_files(store)
    for _ in range(3):
        uuids, problems = found(store)
        assert set(uuids) == set(ended.all("ack"))
        assert not problems
        compact(store, grace_seconds=0)
        check_files(store)
    assert not list(store.glob("journal/*"))
    assert len(list(store.glob("segments/*/*"))) == 2, "a segment of each day"
    assert not list(store.rglob("*.tmp"))


def check_tidied(store: Path, ended: Session) -> None:
    """Rows that were damaged are named, no other is missing, and the rest of the work is done."""
    check_files(store)
    for _ in range(3):
        uuids, problems = found(store)
        missing = set(ended.all("ack")) - set(uuids)
        assert set(uuids) <= set(ended.all("ack"))
        assert problems, "nothing says that rows are missing"
        assert len(missing) == 5, "a line of one row, a segment of four"
        compact(store, grace_seconds=0, thorough=True)
    assert not list(store.glob("journal/*"))


def check_rebuilt(store: Path, ended: Session) -> None:
    """No row is twice; none is missing without a word, and none at all once the catalog is there again."""
    check_files(store)
    uuids, problems = found(store)
    assert problems or set(uuids) == set(ended.all("ack"))
    compact(store, grace_seconds=0)
    for _ in range(2):
        assert set(found(store)[0]) == set(ended.all("ack"))
        compact(store, grace_seconds=0)
    assert not list(store.glob("journal/*"))


CHECKS: dict[str, Any] = {
    "write": check_written,
    "compaction": check_compacted,
    "tidying": check_tidied,
    "rebuilding": check_rebuilt,
}


def try_places(run: Run, store: Path, session: str, how: str, *, every: bool) -> None:
    for number in places(run, session, every=every):
        ended = run(session, number, how)
        fired = (ended.all("fired") or ["nothing"])[0]
        note = f"{how} at operation {number}, {fired}"
        assert not ended.all("failed"), f"{note}: {json.loads(ended.all('failed')[0])}"
        assert ended.status in (0, 9), note
        try:
            CHECKS[session](store, ended)
        except Exception as error:
            error.add_note(f"{note}; it said {ended.said}")
            raise


@pytest.mark.parametrize("session", CHECKS)
def test_sessions(run: Run, store: Path, session: str) -> None:
    """Without a fault a session does what the others are checked for."""
    ended = run(session, 1_000_000)
    assert not ended.all("raised")
    assert not ended.all("failed")
    CHECKS[session](store, ended)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("session", CHECKS)
def test_some_operations(run: Run, store: Path, session: str, how: str) -> None:
    """The fault at a few places, others in every run."""
    try_places(run, store, session, how, every=False)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("session", CHECKS)
def test_every_operation(run: Run, store: Path, session: str, how: str) -> None:
    """The fault at each place in turn, or at a third of them."""
    try_places(run, store, session, how, every=True)
