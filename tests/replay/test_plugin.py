"""The pytest plugin in pytests of their own: record, replay, miss, trim, and everything tests are called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from lmtrace.testing import LoopbackProvider
from lmtrace_replay import plugin
from lmtrace_replay._desk import MODES

pytest_plugins = ["pytester"]

CONFTEST = """
import lmtrace
import pytest
from pathlib import Path
from lmtrace._data import LMOutput, LMResponse, LMTextPart, LMUsage

ASKED = Path(__file__).with_name("asked.txt")

class Parrot:
    def complete(self, request, secrets):
        question = request.messages[-1]["content"]
        with ASKED.open("a") as file:
            file.write(f"{question}\\n")
        usage = LMUsage(input_tokens=3, output_tokens=2, total_tokens=5)
        return LMResponse(outputs=[LMOutput(parts=[LMTextPart(question.upper())])], usage=usage, cost=0.0001)

    async def acomplete(self, request, secrets):
        return self.complete(request, secrets)

@pytest.fixture
def lm():
    return lmtrace.LM("local/parrot", backend=Parrot(), num_retries=0)
"""

ONE = """
import pytest

@pytest.mark.lmtrace
def test_one(lm):
    assert lm("hello") == ["HELLO"]
"""

Run = Callable[..., pytest.RunResult]


PLUGINS = ("syrupy", "pytest_asyncio.plugin", "lmtrace_replay.plugin")


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs pytest inside this one, with a model that repeats in capitals what it is asked."""
    _prepare(pytester, monkeypatch)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a test that is changed within a second is another one

    def start(*arguments: str, plugins: tuple[str, ...] = PLUGINS) -> pytest.RunResult:
        return pytester.runpytest_inprocess(*_named(plugins), *arguments)

    return start


@pytest.fixture
def run_alone(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same in a process of its own, where what this one has imported, patched and set up is not there."""
    _prepare(pytester, monkeypatch)

    def start(*arguments: str, plugins: tuple[str, ...] = PLUGINS) -> pytest.RunResult:
        return pytester.runpytest_subprocess(*_named(plugins), *arguments, timeout=200)

    return start


def _prepare(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CI", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(variable, raising=False)  # the pytest inside is nobody's worker
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeconftest(CONFTEST)
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")


def _named(plugins: tuple[str, ...]) -> list[str]:
    return [word for plugin in plugins for word in ("-p", plugin)]


def asked(pytester: pytest.Pytester) -> list[str]:
    """What the model has been asked so far, and forgets now."""
    path = pytester.path / "asked.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def kept(pytester: pytest.Pytester) -> dict[str, str]:
    """The files of snapshots by their path, with their text."""
    folder = pytester.path / "__snapshots__"
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def record(run: Run, pytester: pytest.Pytester, *arguments: str) -> dict[str, str]:
    """Run all tests against the model once; the snapshots they leave."""
    run("--lmtrace-mode=record-missing", *arguments).assert_outcomes(passed=len(set(asked(pytester))))
    return kept(pytester)


def test_record_then_replay(run_alone: Run, pytester: pytest.Pytester) -> None:
    """Asked once with --lmtrace-mode=record-missing, a model is never asked again, and the summary says so."""
    pytester.makepyfile(test_it=ONE)
    done = run_alone("--lmtrace-mode=record-missing")
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["*1 snapshot generated.*", "lmtrace: 1 recorded"])
    assert asked(pytester) == ["hello"]
    assert list(kept(pytester)) == ["test_it/test_one.cassette"]

    done = run_alone()
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["*1 snapshot passed.*", "lmtrace: 1 replayed, $0.00010 saved"])
    assert asked(pytester) == []


def test_recording_again_changes_nothing(run: Run, pytester: pytest.Pytester) -> None:
    """The same answers recorded again are the same bytes, in either mode that records."""
    pytester.makepyfile(test_it=ONE)
    before = record(run, pytester)
    done = run("--lmtrace-mode=rewrite")
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["lmtrace: recording again*1 recorded call of these tests cost $0.00010 last time"])
    assert asked(pytester) == ["hello"]
    assert kept(pytester) == before
    run("--lmtrace-mode=record-missing").assert_outcomes(passed=1)
    assert asked(pytester) == []
    assert kept(pytester) == before


def test_a_miss_says_what_to_do(run: Run, pytester: pytest.Pytester) -> None:
    """Without a cassette a call fails the test in its call phase, with the place that asked and the command that records."""
    pytester.makepyfile(test_it=ONE)
    done = run()
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "*no recorded answer: nothing is recorded*",
            "*--lmtrace-mode=record-missing*",
            "test_it.py:5: ReplayMiss",
            "*1 missed",
        ]
    )
    assert asked(pytester) == []
    assert not (pytester.path / "__snapshots__").exists()


def test_a_changed_prompt_is_stale(run: Run, pytester: pytest.Pytester) -> None:
    """A call like a recorded one is stale: the report shows the difference, the summary what recording again costs."""
    pytester.makepyfile(test_it=ONE)
    record(run, pytester)
    pytester.makepyfile(test_it=ONE.replace('"hello"', '"hello again"'))
    done = run()
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        [
            "*{+ again+}*",
            "lmtrace: 1 stale*",
            "*outdated cassette*cost $0.00010 last time: pytest --last-failed --lmtrace-mode=rewrite",
        ]
    )


SWALLOWED = """
import asyncio
import pytest
from concurrent.futures import ThreadPoolExecutor, wait

pytestmark = pytest.mark.lmtrace

def test_bare(lm):
    try: lm("x")
    except: pass

def test_broad(lm):
    try:
        try: lm("x")
        except Exception: pass
    except BaseException: pass

def test_gather(lm):
    async def gathered():
        await asyncio.gather(lm.acall("x"), lm.acall("y"), return_exceptions=True)
    asyncio.run(gathered())

def test_threads(lm):
    with ThreadPoolExecutor(2) as pool:
        wait([pool.submit(lm, "x"), pool.submit(lm, "y")])

def test_retries(lm):
    for _ in range(3):
        try: lm("x")
        except BaseException: continue

def test_skipped(lm):
    try: lm("x")
    except BaseException: pytest.skip("no model")
"""


def test_a_swallowed_miss_fails(run_alone: Run, pytester: pytest.Pytester) -> None:
    """Whatever catches a miss, the test fails in its call phase, with the report; a skip does not hide it."""
    pytester.makepyfile(test_it=SWALLOWED)
    done = run_alone()
    done.assert_outcomes(failed=6)
    assert done.stdout.str().count("\nno recorded answer: ") == 6
    assert asked(pytester) == []


def test_its_own_failure_is_shown_too(run: Run, pytester: pytest.Pytester) -> None:
    """A test that fails because a miss was swallowed shows both: its own line, and the report."""
    pytester.makepyfile(
        test_it="""
import pytest

@pytest.mark.lmtrace
def test_it(lm):
    try:
        answer = lm("x")
    except BaseException:
        answer = None
    assert answer == ["X"]
"""
    )
    done = run()
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*assert None == *", "*no recorded answer: *"])


FAILING = ONE + "    assert lm('more') == ['no']\n"


def test_only_passing_tests_record(run: Run, pytester: pytest.Pytester) -> None:
    """A failing test writes nothing, in no mode, and keeps the cassette it has, whatever else is trimmed."""
    pytester.makepyfile(test_it=FAILING)
    run("--lmtrace-mode=record-missing").assert_outcomes(failed=1)
    assert not (pytester.path / "__snapshots__").exists()
    pytester.makepyfile(test_it=ONE)
    asked(pytester)
    before = record(run, pytester)
    pytester.makepyfile(test_it=FAILING)
    for arguments in (
        [],
        ["--snapshot-update"],
        ["--lmtrace-mode=rewrite"],
        ["--lmtrace-mode=rewrite", "--snapshot-update"],
    ):
        done = run(*arguments)
        done.assert_outcomes(failed=1)
        done.stdout.no_fnmatch_line("*snapshot unused*")
        assert kept(pytester) == before


def test_tests_that_do_not_run_keep_theirs(run: Run, pytester: pytest.Pytester) -> None:
    """A skipped test, or one whose fixtures fail, keeps its cassette, whatever else is trimmed."""
    mark = "\n@pytest.mark.lmtrace\n"
    tests = [
        f"{mark}def test_{name}(lm):\n    lm('{name}')\n" for name in ("inside", "mark", "never", "broken", "runs")
    ]
    pytester.makepyfile(test_it="import pytest\n" + "".join(tests))
    before = record(run, pytester)
    assert len(before) == 5
    tests[0] = tests[0].replace(":\n", ":\n    pytest.skip('later')\n")
    tests[1] = tests[1].replace(mark, f"{mark}@pytest.mark.skip\n")
    tests[2] = tests[2].replace(mark, f"{mark}@pytest.mark.xfail(run=False)\n")
    tests[3] = tests[3].replace("(lm)", "(lm, missing)")
    pytester.makepyfile(test_it="import pytest\n" + "".join(tests))
    done = run("--snapshot-update")
    done.assert_outcomes(skipped=2, xfailed=1, errors=1, passed=1)
    done.stdout.no_fnmatch_line("*snapshot unused*")
    assert kept(pytester) == before


def test_unused_recordings_are_reported_and_trimmed(run: Run, pytester: pytest.Pytester) -> None:
    """A recording nobody asks for fails the test by name; --snapshot-update removes it, and nothing else."""
    pytester.makepyfile(test_it=ONE)
    one = record(run, pytester)
    pytester.makepyfile(test_it=ONE + "    lm('more')\n")
    run("--lmtrace-mode=record-missing").assert_outcomes(passed=1)
    pytester.makepyfile(test_it=ONE)
    done = run()
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(
        ["*1 of 2 recordings*unused*", "*local/parrot*more*", "*--snapshot-update*", "*1 unused*"]
    )
    run("--snapshot-update").assert_outcomes(passed=1)
    assert kept(pytester) == one
    run().assert_outcomes(passed=1)


def test_obsolete_files_are_reported_and_removed(run: Run, pytester: pytest.Pytester) -> None:
    """The cassette of a test that is gone is reported, and removed by --snapshot-update."""
    pytester.makepyfile(test_it=ONE + "\n@pytest.mark.lmtrace\ndef test_gone(lm):\n    lm('gone')\n")
    assert len(record(run, pytester)) == 2
    pytester.makepyfile(test_it=ONE)
    done = run()
    assert done.ret == 1
    done.stdout.fnmatch_lines(["*1 snapshot unused.*"])
    run("--snapshot-update").stdout.fnmatch_lines(["*Deleted test_gone*"])
    assert list(kept(pytester)) == ["test_it/test_one.cassette"]


MANY = """
import pytest

IDS = ["a", "A", "../../escape", "/etc/passwd", "nul\\0byte", "CON", "y" * 300, "y" * 300 + "z", "a/b", "a-b", "é", "é", " ", "1.5"]

@pytest.mark.lmtrace
@pytest.mark.parametrize("number", range(len(IDS)), ids=IDS)
def test_ids(lm, number):
    assert lm(f"id {number}") == [f"ID {number}"]

@pytest.mark.lmtrace
class TestGroup:
    def test_in_class(self, lm):
        assert lm("class") == ["CLASS"]

    async def test_async(self, lm):
        assert await lm.acall("async") == ["ASYNC"]

    class TestInner:
        @pytest.mark.parametrize("x", [1, 2])
        async def test_inner(self, lm, x):
            assert await lm.acall(f"inner {x}") == [f"INNER {x}"]

@pytest.mark.lmtrace
def test_case(lm):
    assert lm("lower") == ["LOWER"]

@pytest.mark.lmtrace
def test_CASE(lm):
    assert lm("upper") == ["UPPER"]
"""


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((), id="one"),
        pytest.param(("-p", "xdist.plugin", "-n", "2"), id="xdist", marks=pytest.mark.slow),
        pytest.param(("-p", "pytest_randomly"), id="random", marks=pytest.mark.slow),
    ],
)
def test_tests_of_any_name(arguments: tuple[str, ...], run: Run, pytester: pytest.Pytester) -> None:
    """Classes, async tests and any parameters have a cassette each, short enough, in the folder; in any order and processes."""
    pytester.makepyfile(test_it=MANY)
    files = record(run, pytester, *arguments)
    assert len(files) == 20
    assert len({name.casefold() for name in files}) == 20
    assert all(len(Path(name).name.encode()) <= 150 and Path(name).parts[0] == "test_it" for name in files)
    done = run(*arguments)
    done.assert_outcomes(passed=20)
    done.stdout.fnmatch_lines(["*20 snapshots passed.*", "lmtrace: 20 replayed*"])
    done.stdout.no_fnmatch_line("*snapshot unused*")
    assert asked(pytester) == []
    run(*arguments, "--snapshot-update", "-k", "not TestGroup").assert_outcomes(
        passed=16, deselected=4 if "-n" not in arguments else 0
    )
    assert kept(pytester) == files


@pytest.mark.slow
def test_xdist_trims(run_alone: Run, pytester: pytest.Pytester) -> None:
    """With tests spread over processes, what is obsolete is found and removed once, and misses are counted together."""
    pytester.makepyfile(test_it=ONE + "\n@pytest.mark.lmtrace\ndef test_two(lm):\n    lm('two')\n", test_other=ONE)
    run_alone("-p", "xdist.plugin", "-n", "2", "--lmtrace-mode=record-missing").assert_outcomes(passed=3)
    done = run_alone("-p", "xdist.plugin", "-n", "2", "--lmtrace-mode=rewrite")
    done.stdout.fnmatch_lines(["lmtrace: recording again*3 recorded calls of these tests cost $0.00030 last time"])
    assert done.stdout.str().count("recording again") == 1
    pytester.makepyfile(test_it=ONE)
    run_alone("-p", "xdist.plugin", "-n", "2", "--snapshot-update").stdout.fnmatch_lines(
        ["*Deleted test_two*", "lmtrace: 2 replayed*"]
    )
    assert list(kept(pytester)) == ["test_it/test_one.cassette", "test_other/test_one.cassette"]


def test_ci_records_only_when_told(run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CI is set, a mode in a file or a marker does not record; the command line does."""
    monkeypatch.setenv("CI", "true")
    pytester.makepyfile(test_it=ONE.replace("mark.lmtrace", "mark.lmtrace(mode='rewrite')"))
    done = run()
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*CI is set*--lmtrace-mode=rewrite*"])
    pytester.makepyfile(test_it=ONE)
    run("-o", "lmtrace_mode=record-missing").assert_outcomes(errors=1)
    assert asked(pytester) == []
    run("--lmtrace-mode=rewrite").assert_outcomes(passed=1)
    assert asked(pytester) == ["hello"]


def test_an_environment_variable_changes_nothing(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests without the marker are left alone, and no variable turns replay on or off."""
    monkeypatch.setenv("LMTRACE_MODE", "rewrite")
    pytester.makepyfile(test_it=ONE.replace("@pytest.mark.lmtrace", ""))
    run().assert_outcomes(passed=1)
    assert asked(pytester) == ["hello"]
    pytester.makepyfile(test_it=ONE)
    run().assert_outcomes(failed=1)


SOCKETS = """
import asyncio, pytest, socket

@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()

@pytest.mark.lmtrace
def test_raw(server):
    socket.create_connection(server)

@pytest.mark.lmtrace
async def test_async(server):
    _, writer = await asyncio.open_connection(*server)
    writer.close()
    await writer.wait_closed()

@pytest.mark.lmtrace
def test_swallowed(server):
    try: socket.create_connection(server)
    except OSError: pass

@pytest.mark.lmtrace(allow=["loopback"])
def test_allowed(server):
    socket.create_connection(server).close()

def test_unmarked(server):
    socket.create_connection(server).close()
"""


def test_sockets_are_guarded(run: Run, pytester: pytest.Pytester) -> None:
    """A test that replays opens no connection, not even to its own machine unless that is allowed; others are left alone."""
    pytester.makepyfile(test_it=SOCKETS)
    done = run()
    done.assert_outcomes(passed=3, failed=2)
    done.stdout.fnmatch_lines(["*NetworkBlockedError: 127.0.0.1:*", "lmtrace: connections refused: 127.0.0.1:*"])
    run("--lmtrace-allow=loopback").assert_outcomes(passed=5)
    run("-o", "lmtrace_allow=127.0.0.1").assert_outcomes(passed=5)
    run("--lmtrace-mode=live").assert_outcomes(passed=5)


def test_fixtures_replay_too(run: Run, pytester: pytest.Pytester) -> None:
    """Calls of the test's own fixtures are replayed with it; those of wider fixtures are none of its business."""
    pytester.makepyfile(
        test_it="""
import pytest

@pytest.fixture
def answer(lm):
    return lm("in a fixture")

@pytest.fixture(scope="module")
def server():
    import socket
    with socket.create_server(("127.0.0.1", 0)) as listening:
        socket.create_connection(listening.getsockname()).close()

@pytest.mark.lmtrace
def test_it(answer, server):
    assert answer == ["IN A FIXTURE"]
"""
    )
    record(run, pytester)
    run().assert_outcomes(passed=1)
    assert asked(pytester) == []


def test_the_fixture_tells(run: Run, pytester: pytest.Pytester) -> None:
    """`lm_replay` has the calls, their cost and the misses, and needs no marker."""
    pytester.makepyfile(
        test_it="""
def test_it(lm, lm_replay):
    lm("one")
    lm("two")
    assert [call.request.messages[-1]["content"] for call in lm_replay.calls] == ["one", "two"]
    assert [call.response.outputs[0].text for call in lm_replay.calls] == ["ONE", "TWO"]
    assert round(lm_replay.cost, 6) == 0.0002
    assert not lm_replay.misses
    assert lm_replay.cassette.name == "test_it.cassette"
"""
    )
    run("--lmtrace-mode=record-missing").assert_outcomes(passed=1)
    run().assert_outcomes(passed=1)


def test_transcripts(run: Run, pytester: pytest.Pytester) -> None:
    """`lm_transcript` compares what was asked with the last time, word by word, and is written when answers are."""
    test = """
import datetime

def test_it(lm, lm_replay, lm_transcript):
    lm(messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}])
    assert lm_replay.calls == lm_transcript(matcher=lambda *, data, path: data.replace("!", "<!>"))
"""
    pytester.makepyfile(test_it=test)
    run("--lmtrace-mode=record-missing").assert_outcomes(passed=1)
    files = kept(pytester)
    assert files["test_it/test_it.lmtx"] == "# 1  local/parrot\nsystem:\n    Be brief.\nuser:\n    Hello<!>\n"
    run().assert_outcomes(passed=1)
    pytester.makepyfile(test_it=test.replace("brief", "kind"))
    done = run("--lmtrace-mode=live")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*-     Be brief.*", "*+     Be kind.*"])


def test_failing_tests_keep_all_their_files(run: Run, pytester: pytest.Pytester) -> None:
    """A test that fails before it compares anything, or before it begins, keeps transcript and cassette."""
    test = """
import pytest

@pytest.fixture(scope="module")
def service():
    pass

def test_body(lm, lm_replay, lm_transcript):
    lm("one")
    assert lm_replay.calls == lm_transcript
    lm("two")
    assert lm_replay.calls == lm_transcript

def test_fixture(service, lm, lm_replay, lm_transcript):
    lm("one")
    assert lm_replay.calls == lm_transcript

@pytest.mark.lmtrace
def test_fine(lm):
    lm("fine")
"""
    pytester.makepyfile(test_it=test)
    run("--lmtrace-mode=record-missing").assert_outcomes(passed=3)
    before = kept(pytester)
    assert len(before) == 6
    pytester.makepyfile(test_it=test.replace("    pass", "    raise OSError").replace('lm("two")', 'lm("changed")'))
    done = run("--snapshot-update")
    done.assert_outcomes(passed=1, failed=1, errors=1)
    done.stdout.no_fnmatch_line("*snapshot unused*")
    assert kept(pytester) == before


def test_transcripts_of_threads(run: Run, pytester: pytest.Pytester) -> None:
    """The order of a transcript is that of the tasks, not the one in which they happened to end."""
    pytester.makepyfile(
        test_it="""
import threading
from concurrent.futures import ThreadPoolExecutor

def test_it(lm, lm_replay, lm_transcript):
    second = threading.Event()

    def ask(number):
        if number == 1:
            second.wait(60)
        lm(f"question {number}")
        second.set()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(ask, (1, 2)))
    assert [call.messages[0]["content"] for call in lm_replay.calls] == ["question 2", "question 1"]
    assert lm_replay.calls == lm_transcript
"""
    )
    run("--lmtrace-mode=record-missing").assert_outcomes(passed=1)
    text = kept(pytester)["test_it/test_it.lmtx"]
    assert text.index("question 1") < text.index("question 2")
    run().assert_outcomes(passed=1)


def test_verify(run: Run, pytester: pytest.Pytester) -> None:
    """With --lmtrace-mode=verify recorded answers are served, and a test fails when a live one has another shape."""
    pytester.makepyfile(test_it=ONE)
    before = record(run, pytester)
    run("--lmtrace-mode=verify").assert_outcomes(passed=1)
    assert asked(pytester) == ["hello"]
    (pytester.path / "conftest.py").write_text(CONFTEST.replace("question.upper()", "''"))
    done = run("--lmtrace-mode=verify")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*live answers are not what was recorded:*", "*local/parrot: *"])
    assert kept(pytester) == before


def test_a_cassette_by_name(run: Run, pytester: pytest.Pytester) -> None:
    """A cassette named by the marker is a file of the user's: tests may share it, and syrupy leaves it alone."""
    test = ONE.replace("mark.lmtrace", "mark.lmtrace('cassettes/shared')")
    pytester.makepyfile(test_it=test)
    run("--lmtrace-mode=record-missing").assert_outcomes(passed=1)
    assert (pytester.path / "cassettes" / "shared.cassette").exists()
    pytester.makepyfile(test_it=test + test.partition("import pytest")[2].replace("test_one", "test_two"))
    run("--snapshot-update").assert_outcomes(passed=2)
    asked(pytester)
    done = run("--lmtrace-mode=rewrite")
    done.assert_outcomes(errors=2)
    done.stdout.fnmatch_lines(["*shared.cassette*2 tests*"])
    assert asked(pytester) == []


MISTAKES = {
    "lmtrace(mod='live')": "*no argument 'mod'; did you mean 'mode'*",
    "lmtrace(mode='once')": "*mode is one of replay,*not 'once'*",
    "lmtrace('../../outside')": "*outside of the project*",
    "lmtrace('a', 'b')": "*one positional argument*",
    "lmtrace(normalisers=['no'])": "*'no' is no normaliser*dates*",
}


def test_mistakes_are_explained(run: Run, pytester: pytest.Pytester) -> None:
    """A marker that makes no sense is an error that says what would."""
    tests = [f"@pytest.mark.{marker}\ndef test_{number}(lm): pass\n" for number, marker in enumerate(MISTAKES)]
    pytester.makepyfile(test_it="import pytest\n\n" + "\n".join(tests))
    done = run()
    done.assert_outcomes(errors=len(MISTAKES))
    done.stdout.fnmatch_lines(list(MISTAKES.values()))


def test_normalisers(run: Run, pytester: pytest.Pytester) -> None:
    """A prompt with a date of its own is found again when dates are made equal."""
    test = ONE.replace('lm("hello") == ["HELLO"]', 'lm("on 2026-11-21")')
    pytester.makepyfile(test_it=test)
    run("--lmtrace-mode=record-missing", "-o", "lmtrace_normalisers=dates").assert_outcomes(passed=1)
    pytester.makepyfile(test_it=test.replace("11-21", "12-24"))
    run().assert_outcomes(failed=1)
    run("-o", "lmtrace_normalisers=dates").assert_outcomes(passed=1)


@pytest.mark.parametrize("plugins", [PLUGINS[1:], (*PLUGINS, "no:syrupy")])
def test_without_syrupy(plugins: tuple[str, ...], run_alone: Run, pytester: pytest.Pytester) -> None:
    """The plugin loads without syrupy, and says what to install when a test needs it."""
    pytester.makepyfile(test_it=ONE, test_else="def test_nothing(): pass")
    done = run_alone(plugins=plugins)
    done.assert_outcomes(passed=1, errors=1)
    done.stdout.fnmatch_lines(["*pip install 'lmtrace[[]pytest]'*"])


@pytest.mark.slow
def test_beside_other_plugins(run_alone: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options, markers and fixtures are no other plugin's."""
    pytester.makepyfile(test_it=ONE + "\n@pytest.mark.vcr\n@pytest.mark.block_network\ndef test_http(): pass\n")
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    options = ("--record-mode=none", "--block-network")
    plugins = () if any(point.value == PLUGINS[-1] for point in entry_points(group="pytest11")) else PLUGINS[-1:]
    run_alone("--lmtrace-mode=record-missing", *options, "--strict-markers", plugins=plugins).assert_outcomes(passed=2)
    run_alone(*options, plugins=plugins).assert_outcomes(passed=2)
    run_alone(*options, "-n", "2", plugins=plugins).assert_outcomes(passed=2)


def test_modes_are_those_of_sessions() -> None:
    """The option offers what a session can do."""
    assert plugin.MODES == MODES


def test_it_costs_nothing_unused(run_alone: Run, pytester: pytest.Pytester) -> None:
    """A pytest that replays nothing imports nothing of lmtrace but the plugin."""
    (pytester.path / "conftest.py").unlink()
    pytester.makepyfile(
        test_it="""
import sys

def test_it():
    heavy = {"lmtrace", "litellm", "duckdb", "pyarrow", "orjson", "opentelemetry", "lmtrace_exporters", "pydantic"}
    assert not heavy & set(sys.modules)
    assert sorted(name for name in sys.modules if name.startswith("lmtrace")) == ["lmtrace_replay", "lmtrace_replay.plugin"]
"""
    )
    run_alone().assert_outcomes(passed=1)


def test_unittest(run: Run, pytester: pytest.Pytester) -> None:
    """Methods of a `unittest.TestCase` replay too, and a swallowed miss fails them."""
    pytester.makepyfile(
        test_it="""
import unittest
import pytest

@pytest.mark.lmtrace
class TestAll(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def model(self, lm):
        self.lm = lm

    def test_one(self):
        self.assertEqual(self.lm("hello"), ["HELLO"])

    def test_swallowed(self):
        try: self.lm("x")
        except BaseException: pass
"""
    )
    run("--lmtrace-mode=record-missing").assert_outcomes(passed=2)
    run().assert_outcomes(passed=2)
    (pytester.path / "__snapshots__" / "test_it" / "TestAll.test_swallowed.cassette").unlink()
    run().assert_outcomes(passed=1, failed=1)


LITELLM = """
import litellm
import pytest
from litellm import completion

MESSAGES = [{"role": "user", "content": "hello"}]

@pytest.mark.lmtrace
def test_sync():
    assert completion("openai/gpt-4o-mini", MESSAGES).choices[0].message.content == "one"

@pytest.mark.lmtrace
async def test_async():
    answer = await litellm.acompletion("openai/gpt-4o-mini", MESSAGES)
    assert answer.choices[0].message.content == "two"

@pytest.mark.lmtrace
def test_stream():
    chunks = completion("openai/gpt-4o-mini", MESSAGES, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "three"

@pytest.mark.lmtrace
def test_error():
    with pytest.raises(litellm.exceptions.BadRequestError):
        completion("openai/gpt-4o-mini", MESSAGES, num_retries=0)
"""


@pytest.mark.slow
def test_litellm_as_it_is(run_alone: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that calls LiteLLM and knows nothing of lmtrace is recorded, and replayed when there is no provider."""
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    pytester.makepyfile(test_it=LITELLM)
    with LoopbackProvider() as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.openai_base)
        for text in ("one", "two", "three"):
            provider.reply(text)
        provider.fail(status=400)
        run_alone("--lmtrace-mode=record-missing").assert_outcomes(passed=4)
    assert len(kept(pytester)) == 4
    done = run_alone()
    done.assert_outcomes(passed=4)
    done.stdout.fnmatch_lines(["lmtrace: 4 replayed*"])
