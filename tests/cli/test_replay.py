"""`lmtrace replay`: a program runs offline with recorded answers, or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lmtrace._cli._program import BOOTSTRAP

PROGRAM = """
import socket
import sys
from pathlib import Path
import lmtrace
from lmtrace._data import LMOutput, LMResponse, LMTextPart, LMUsage

class Parrot:
    def complete(self, request, secrets):
        question = request.messages[-1]["content"]
        with Path("asked.txt").open("a") as file:
            file.write(question + "\\n")
        if question == "die":
            sys.exit(5)
        usage = LMUsage(input_tokens=3, output_tokens=2, total_tokens=5)
        return LMResponse(outputs=[LMOutput(parts=[LMTextPart(question.upper())])], usage=usage, cost=0.0001)

lm = lmtrace.LM("local/parrot", backend=Parrot(), num_retries=0)
for question in sys.argv[1:]:
    if question == "connect":
        socket.create_connection(("127.0.0.1", 9))
    elif question == "swallow":
        try: lm("unknown")
        except BaseException: pass
    else:
        print(lm(question))
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``lmtrace replay [options] bug.cassette -- python app.py [questions]`` in an empty folder."""
    (tmp_path / "app.py").write_text(PROGRAM)
    monkeypatch.delenv("LMTRACE_TEST_RAISE", raising=False)

    def start(
        *questions: str, options: tuple[str, ...] = (), command: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        program = command or (sys.executable, "app.py", *questions)
        words = [sys.executable, "-m", "lmtrace", "replay", *options, "bug.cassette", "--", *program]
        return subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=200)

    return start


def asked(folder: Path) -> list[str]:
    """What the model has been asked so far, and forgets now."""
    path = folder / "asked.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def test_record_then_replay(run: Run, tmp_path: Path) -> None:
    """What was recorded is answered again without the model, and nothing goes to the store."""
    done = run("one", "two", options=("--mode", "record-missing"))
    assert (done.returncode, done.stdout.splitlines()) == (0, ["['ONE']", "['TWO']"])
    assert done.stderr == "lmtrace: 2 recorded\n"
    assert asked(tmp_path) == ["one", "two"]
    done = run("two", "one")
    assert (done.returncode, done.stdout.splitlines()) == (0, ["['TWO']", "['ONE']"])
    assert done.stderr == "lmtrace: 2 replayed, $0.00020 saved\n"
    assert asked(tmp_path) == []
    assert not (tmp_path / "store").exists()


def test_a_miss_is_reported_once(run: Run, tmp_path: Path) -> None:
    """A miss ends the program with its report; one that was swallowed is reported by the command, which exits with 1."""
    run("one", options=("--mode", "record-missing"))
    done = run("one", "other")
    assert done.returncode == 1
    assert done.stderr.count("no recorded answer: ") == 1
    assert "lmtrace: 1 replayed, 1 missed" in done.stderr
    assert "print(lm(question))" in done.stderr
    assert "_desk.py" not in done.stderr
    done = run("swallow", "one")
    assert (done.returncode, done.stdout) == (1, "['ONE']\n")
    assert done.stderr.startswith("no recorded answer: ")
    assert "lmtrace replay --mode rewrite bug.cassette -- " in done.stderr


def test_connections_are_refused(run: Run) -> None:
    """The program reaches no service, unless it is allowed."""
    run("one", options=("--mode", "record-missing"))
    assert "NetworkBlockedError: 127.0.0.1:9" in run("connect").stderr
    assert "ConnectionRefusedError" in run("connect", options=("--allow", "loopback")).stderr


def test_a_failed_program_records_nothing(run: Run, tmp_path: Path) -> None:
    """The cassette stays as it was when the program fails; its exit status is the program's."""
    done = run("one", "die", options=("--mode", "record-missing"))
    assert done.returncode == 5
    assert "stays as it was" in done.stderr
    assert not (tmp_path / "bug.cassette").exists()


def test_rewriting_asks_first(run: Run, tmp_path: Path) -> None:
    """What recording again will cost is said before, and where nobody can agree it takes --yes."""
    run("one", options=("--mode", "record-missing"))
    before = (tmp_path / "bug.cassette").read_bytes()
    asked(tmp_path)
    done = run("one", options=("--mode", "rewrite"))
    assert done.returncode == 2
    assert "1 recorded call cost $0.00010 last time" in done.stderr
    assert asked(tmp_path) == []
    assert run("one", options=("--mode", "rewrite", "--yes")).returncode == 0
    assert asked(tmp_path) == ["one"]
    assert (tmp_path / "bug.cassette").read_bytes() == before


def test_children_of_the_program(run: Run, tmp_path: Path) -> None:
    """Processes the program starts replay too, and what they record is kept."""
    child = ("-c", "import subprocess, sys; sys.exit(subprocess.call([sys.executable, 'app.py', 'one']))")
    command = (sys.executable, *child)
    assert run(options=("--mode", "record-missing"), command=command).stderr == "lmtrace: 1 recorded\n"
    asked(tmp_path)
    assert run(command=command).stdout == "['ONE']\n"
    assert asked(tmp_path) == []


PROCESSES = """
import multiprocessing, os, random, subprocess, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
import lmtrace
from lmtrace._data import LMOutput, LMResponse, LMTextPart

class Oracle:
    def complete(self, request, secrets):
        Path("asked.txt").touch()
        return LMResponse(outputs=[LMOutput(parts=[LMTextPart(NAME)])])

def ask(name):
    global NAME
    NAME = name
    time.sleep(random.random() / 5)
    said = lmtrace.LM("local/oracle", backend=Oracle(), cache=False, num_retries=0)("who are you?")[0]
    assert said == name, (said, name)
    return said

def main():
    started = [subprocess.Popen([sys.executable, __file__, f"child {number}"]) for number in range(2)]
    started += [subprocess.Popen([sys.executable, __file__, "env"], env=dict(os.environ))]
    ways = [multiprocessing.get_context(way) for way in ("fork", "spawn")]
    working = [way.Process(target=ask, args=(f"{way.get_start_method()} {number}",)) for way in ways for number in range(2)]
    for process in working:
        process.start()
    pid = os.fork()
    if pid == 0:
        ask("forked")
        os._exit(0)
    with ProcessPoolExecutor(2, mp_context=ways[0]) as pool:
        list(pool.map(ask, ["piece 0", "piece 1", "piece 2"]))
    ask("parent")
    for process in working:
        process.join()
    ends = [process.wait() for process in started] + [process.exitcode for process in working] + [os.waitpid(pid, 0)[1]]
    assert not any(ends), ends

if __name__ == "__main__":
    ask(sys.argv[1]) if sys.argv[1:] else main()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_processes_side_by_side(run: Run, tmp_path: Path) -> None:
    """Processes that ask the same have labels of their own: each gets its own answer, and recording again gives the same bytes."""
    (tmp_path / "many.py").write_text(PROCESSES)
    command = (sys.executable, "-W", "ignore", "many.py")
    cassettes = []
    for mode in ("record-missing", "rewrite"):
        done = run(options=("--mode", mode, "--yes"), command=command)
        assert done.returncode == 0, done.stderr
        cassettes.append((tmp_path / "bug.cassette").read_bytes())
    assert cassettes[0] == cassettes[1]
    (tmp_path / "asked.txt").unlink()
    done = run(command=command)
    assert (done.returncode, done.stderr) == (0, "lmtrace: 12 replayed\n")
    assert asked(tmp_path) == []


def test_what_nothing_asks_for(run: Run) -> None:
    """Recordings that no process of the program asks for are counted and named as `cassette prune` takes them; that is no failure."""
    run("one", "two", "three", "four", options=("--mode", "record-missing"))
    done = run("three")
    assert done.returncode == 0
    assert "lmtrace: 1 replayed, 3 unused" in done.stderr
    assert "lmtrace cassette prune bug.cassette --calls 1-2,4" in done.stderr
    assert run("three", options=("--quiet",)).stderr == ""


def test_verify_finds_regressions(run: Run, tmp_path: Path) -> None:
    """With --mode verify the program gets the recorded answers, and a live one of another form makes the exit code 1."""
    run("one", "two", options=("--mode", "record-missing"))
    asked(tmp_path)
    assert run("one", "two", options=("--mode", "verify")).returncode == 0
    assert asked(tmp_path) == ["one", "two"]
    (tmp_path / "app.py").write_text(PROGRAM.replace("question.upper()", "'' if question == 'two' else 'ONE'"))
    done = run("one", "two", options=("--mode", "verify"))
    assert (done.returncode, done.stdout.splitlines()) == (1, ["['ONE']", "['TWO']"])
    assert "1 live answer not as recorded:\n  local/parrot: " in done.stderr


def test_normalisers(run: Run, tmp_path: Path) -> None:
    """Texts are made equal by functions of lmtrace or of the program, by name; a name that means nothing is refused."""
    run("on 2026-11-21 for Ann", options=("--mode", "record-missing"))
    (tmp_path / "mine.py").write_text("def names(text): return text.replace('Ann', 'X').replace('Bob', 'X')\n")
    asked(tmp_path)
    options = ("--normalisers", "dates", "--normalisers", "mine:names")
    done = run("on 2026-12-24 for Bob", options=options)
    assert (done.returncode, done.stdout) == (0, "['ON 2026-11-21 FOR ANN']\n")
    assert run("on 2026-12-24 for Bob", options=options[:2]).returncode == 1
    assert run("x", options=("--normalisers", "data")).returncode == 2
    done = run("x", options=("--normalisers", "mine:nothing"))
    assert done.returncode == 3
    assert "'mine:nothing' cannot be imported" in done.stderr
    assert asked(tmp_path) == []


def test_without_a_cassette_nothing_runs(run: Run, tmp_path: Path) -> None:
    """A cassette that is missing or damaged is an error before the program starts."""
    done = run("one")
    assert done.returncode == 3
    assert "there is no cassette" in done.stderr
    (tmp_path / "bug.cassette").write_text("{")
    assert run("one", options=("--mode", "record-missing")).returncode == 3
    assert asked(tmp_path) == []


def test_a_python_that_cannot_replay_is_not_run(tmp_path: Path) -> None:
    """Where replay cannot be started, the program is not either: it would ask a provider."""
    (tmp_path / "status").mkdir()
    (tmp_path / "status" / "replay.json").write_text(
        json.dumps({"cassette": "missing", "mode": "replay", "shown": "x"})
    )
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(BOOTSTRAP), os.environ.get("PYTHONPATH", "")])}
    environ["LMTRACE_RUN_STATUS"] = str(tmp_path / "status")
    done = subprocess.run(
        [sys.executable, "-c", "print('ran')"], capture_output=True, text=True, check=False, env=environ
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("lmtrace replay: not started: ")


def test_no_python_is_no_success(run: Run) -> None:
    """A command in which nothing could be replayed is an error of the environment."""
    run("one", options=("--mode", "record-missing"))
    done = run(command=("true",))
    assert done.returncode == 3
    assert "nothing was replayed" in done.stderr


def test_the_environment_alone_turns_nothing_on(tmp_path: Path) -> None:
    """The variables of a replay without its folder leave a program alone."""
    environ = os.environ | {"LMTRACE_RUN_STATUS": str(tmp_path / "gone"), "LMTRACE_REPLAY": "bug.cassette"}
    code = "import lmtrace, lmtrace._serving; print(lmtrace._serving.current())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ)
    assert done.stdout == "None\n"
