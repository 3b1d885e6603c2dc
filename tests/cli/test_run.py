"""`lmtrace run`: the program runs as if started directly, and its calls are recorded and summed up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from lmtrace_exporters import open_history

CALLING = """
import sys
import lmtrace
from lmtrace._data import LMOutput, LMResponse, LMTextPart, LMUsage

class Parrot:
    def complete(self, request, secrets):
        if request.messages[-1]["content"] == "fail":
            raise ValueError("no")
        usage = LMUsage(input_tokens=1500, output_tokens=20)
        return LMResponse(outputs=[LMOutput(parts=[LMTextPart("Hello")])], usage=usage, cost=0.00042)

lm = lmtrace.LM("local/parrot", backend=Parrot(), num_retries=0)
for question in sys.argv[1:]:
    try:
        print(lm(question))
    except Exception as error:
        print(type(error).__name__)
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs ``lmtrace run -- …`` to its end, in a process of its own and an empty folder."""

    def start(*command: str, options: tuple[str, ...] = (), **settings: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.delenv("LMTRACE_TEST_RAISE", raising=False)
        words = [sys.executable, "-m", "lmtrace", "run", *options, "--", *command]
        return subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=200, **settings)  # type: ignore[call-overload,no-any-return]

    return start


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A program that makes a call for each of its arguments."""
    path = tmp_path / "app.py"
    path.write_text(CALLING)
    return str(path)


def test_summary(run: Run, program: str, tmp_path: Path) -> None:
    """The calls belong to one run, named after the program, and one line on stderr sums them up."""
    done = run(sys.executable, program, "one", "two", "fail")
    assert done.stdout.splitlines() == ["['Hello']", "['Hello']", "LMUnexpectedError"]
    line = done.stderr.splitlines()[-1]
    assert line.startswith("lmtrace  3 calls · 1 error · 3.0k in / 40 out · $0.00084 · ")
    with open_history(tmp_path / "store") as history:
        found = history.sql("SELECT DISTINCT run_name, run_id FROM calls").fetchall()
    ((name, run_id),) = found
    assert name == "app.py"
    assert line.endswith(f"see: lmtrace show {run_id[-8:]}")


def test_quiet(run: Run, program: str) -> None:
    """With --quiet there is no summary."""
    assert run(sys.executable, program, "one", options=("-q",)).stderr == ""


def test_tags(run: Run, program: str, tmp_path: Path) -> None:
    """Tags given to the command stand on every call of the program; one without a value is refused."""
    run(sys.executable, program, "one", options=("--tag", "exp=a", "-t", "note=x=1, y"))
    with open_history(tmp_path / "store") as history:
        assert history.sql("SELECT tags FROM calls").fetchall() == [({"exp": "a", "note": "x=1, y"},)]
    refused = run(sys.executable, program, "one", options=("--tag", "exp"))
    assert refused.returncode == 2
    assert "name=value" in refused.stderr


def test_own_runs_count(run: Run, tmp_path: Path) -> None:
    """Calls in runs that the program opens itself are summed up too."""
    path = tmp_path / "app.py"
    path.write_text(CALLING + "\nwith lmtrace.run('inner'):\n    lm('three')\n")
    line = run(sys.executable, str(path), "one").stderr
    assert "lmtrace  2 calls" in line
    assert line.endswith("see: lmtrace ls --runs\n")


def test_children_count(run: Run, program: str, tmp_path: Path) -> None:
    """Calls of Python programs that the program starts are summed up too."""
    path = tmp_path / "parent.py"
    path.write_text(f"import subprocess, sys\nsubprocess.run([sys.executable, {program!r}, 'one', 'two'], check=True)")
    done = run(sys.executable, str(path))
    assert "lmtrace  2 calls" in done.stderr


def test_streams_and_status(run: Run) -> None:
    """Input, output and exit status pass through."""
    code = "import sys; print(sys.stdin.read().upper()); print('oh', file=sys.stderr); sys.exit(7)"
    done = run(sys.executable, "-c", code, input="hello")
    assert done.returncode == 7
    assert done.stdout == "HELLO\n"
    assert done.stderr.startswith("oh\n")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_killed_by_signal(run: Run) -> None:
    """A program that dies of a signal makes `lmtrace run` die of it."""
    code = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    assert run(sys.executable, "-c", code).returncode == -signal.SIGTERM


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_signal_is_forwarded(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """A signal sent to `lmtrace run` reaches the program, which may end as it likes."""
    code = "import signal, sys; signal.signal(signal.SIGTERM, lambda *a: sys.exit(5)); print('up', flush=True); signal.pause()"
    process = start("run", "--", sys.executable, "-c", code, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 5


def test_sitecustomize_is_chained(run: Run, tmp_path: Path) -> None:
    """A `sitecustomize` of the environment still runs, and sees itself under its own name."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import sys; print('chained', __file__ == sys.modules[__name__].__file__)")
    done = run(sys.executable, "-c", "import sitecustomize", env=os.environ | {"PYTHONPATH": str(folder)})
    assert done.stdout == "chained True\n" * 2  # once in the Python of lmtrace itself


def test_arguments_untouched(run: Run) -> None:
    """What follows -- is the program's, even when it looks like an option of ours."""
    done = run(sys.executable, "-c", "import sys; print(sys.argv[1:])", "--store", "x", "--help", "--", "-q")
    assert done.stdout == "['--store', 'x', '--help', '--', '-q']\n"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("true",), "no Python that looks at PYTHONPATH"),
        ((sys.executable, "-I", "-c", ""), "no Python that looks at PYTHONPATH"),
        ((sys.executable, "-c", ""), "litellm was never imported"),
        ((sys.executable, "-c", "import sys; sys.modules['litellm'] = sys"), "litellm was imported, but no call"),
        ((sys.executable, "-c", "import os; os._exit(0)"), "ended before it made a call"),
    ],
    ids=["no-python", "isolated", "never-imported", "never-called", "cut-off"],
)
def test_no_call_warning(run: Run, command: tuple[str, ...], why: str) -> None:
    """No call at all is a warning that says why, even with --quiet, and does not change the exit status."""
    done = run(*command, options=("-q",))
    assert done.returncode == 0
    assert "lmtrace: 0 calls recorded: " in done.stderr
    assert why in done.stderr


def test_other_environment(run: Run, tmp_path: Path) -> None:
    """A Python without lmtrace runs undisturbed, and the warning names it."""
    venv.create(tmp_path / "other", symlinks=os.name != "nt", with_pip=False)
    python = str(tmp_path / "other" / ("Scripts" if os.name == "nt" else "bin") / "python")
    done = run(python, "-c", "print('fine')")
    assert done.stdout == "fine\n"
    assert f"{python} has no lmtrace; install it there: pip install lmtrace" in done.stderr


def test_store_off(run: Run, program: str) -> None:
    """With the store off the program runs, and the warning says that nothing was recorded."""
    done = run(sys.executable, program, "one", env=os.environ | {"LMTRACE_STORE": "off"})
    assert "['Hello']" in done.stdout
    assert "the store is off" in done.stderr


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid"), reason="needs POSIX")
def test_unwritable_store(run: Run, program: str, tmp_path: Path) -> None:
    """With a store that cannot be written the program runs, and the warning says so."""
    (tmp_path / "file").write_text("")
    done = run(sys.executable, program, "one", options=("--store", str(tmp_path / "file" / "store")))
    assert "['Hello']" in done.stdout
    assert "lmtrace: 0 calls recorded: recording failed" in done.stderr


@pytest.mark.parametrize(
    ("command", "code", "words"), [("no-such-command", 127, "not found"), ("./app.py", 126, "python ./app.py")]
)
def test_not_startable(run: Run, program: str, command: str, code: int, words: str) -> None:
    """A command that cannot be started gets the exit code a shell gives, and a hint."""
    done = run(command)
    assert done.returncode == code
    assert words in done.stderr


def test_json_of_run(run: Run, program: str) -> None:
    """`lmtrace show last` after a run is its last call."""
    run(sys.executable, program, "one", "two")
    done = subprocess.run(
        [sys.executable, "-m", "lmtrace", "show", "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["messages"][-1]["content"] == "two"
