"""Cassettes and misses on the command line: from a trace id to an offline test, and why it has no answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from lmtrace_replay._cassette import load
from lmtrace_replay._explain import explain
from lmtrace_replay._ledger import Ledger
from lmtrace_replay._miss import ReplayMiss

Run = Callable[..., Result]


@pytest.fixture
def history(make_call: Callable[..., dict[str, Any]], make_store: Callable[..., Path]) -> Path:
    """A store of one trace with three answered calls, one failed and one cancelled."""

    def answered(number: int, question: str, answer: str, **columns: Any) -> dict[str, Any]:
        response = {
            "outputs": [{"parts": [{"type": "text", "text": answer}]}],
            "cost": 0.001,
            "response_id": f"r-{number}",
        }
        messages = [{"role": "user", "content": question}]
        return make_call(number, messages=messages, response=response, outputs=[answer], kwargs={}, **columns)

    rows = [
        answered(1, "Capital of France?", "Paris", scope="Geo.answer"),
        answered(2, "Capital of Spain?\n", "Madrid\x1b[31m", scope="Geo.answer", run_name="other", run_id="r2"),
        answered(3, "Sum?", "3", model="ollama/llama3", scope="Sums"),
        make_call(4, messages=[{"role": "user", "content": "No?"}], kwargs={}, error_type="x.RateLimitError"),
        make_call(
            5,
            messages=[{"role": "user", "content": "?"}],
            kwargs={},
            error_type="asyncio.CancelledError",
            request_key="lm1:5",
        ),
    ]
    return make_store(rows)


@pytest.fixture
def cassette(history: Path, lmtrace: Run, tmp_path: Path) -> Path:
    path = tmp_path / "bug.cassette"
    assert lmtrace("cassette", "create", "--trace", "4bf92f35", "-o", str(path)).exit_code == 0
    return path


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_trace_becomes_a_cassette(cassette: Path, lmtrace: Run) -> None:
    """What a trace's calls were asked and answered is in the cassette, ids and cancelled calls are not."""
    recordings = load(cassette).recordings
    assert [one.request.messages[0]["content"] for one in recordings] == [
        "Capital of France?", "Capital of Spain?\n", "Sum?", "No?",
    ]  # fmt: skip
    assert "r-1" not in cassette.read_text()
    assert len(load(cassette).header.cancelled) == 1
    assert recordings[3].error is not None
    again = lmtrace("cassette", "create", "--trace", "4bf92f35", "-o", str(cassette), "--force", "--json")
    assert lines(again)[0]["calls"] == 4


def test_answers_given_again(
    make_call: Callable[..., dict[str, Any]], make_store: Callable[..., Path], lmtrace: Run, tmp_path: Path
) -> None:
    """An answer that the cache gave again is in the cassette once; what LiteLLM's own cache gave again is recorded each time."""

    def row(number: int, question: str, **columns: Any) -> dict[str, Any]:
        response = {"outputs": [{"parts": [{"type": "text", "text": "yes"}]}]}
        messages = [{"role": "user", "content": question}]
        return make_call(
            number, messages=messages, response=response, outputs=["yes"], request_key=f"lm1:{question}", **columns
        )

    ours, theirs = {"served_by": "cache"}, {"served_by": "cache", "cache_name": None}
    make_store(
        [row(1, "ours", cache_name="litellm"), row(2, "ours", **ours), row(3, "theirs"), row(4, "theirs", **theirs)]
    )
    path = tmp_path / "x.cassette"
    assert lmtrace("cassette", "create", "--trace", "4bf92f35", "-o", str(path)).exit_code == 0
    assert [one.request.messages[0]["content"] for one in load(path).recordings] == ["ours", "theirs", "theirs"]


@pytest.mark.parametrize(
    ("options", "number"),
    [
        (["--run", "other"], 1),
        (["--scope", "Geo"], 2),
        (["--where", "model LIKE 'ollama%' OR scope = 'Geo.answer' -- the rest"], 3),
        (["--model", "llama3"], 1),
        (["--errors"], 1),
    ],
)
def test_filters_choose(history: Path, lmtrace: Run, tmp_path: Path, options: list[str], number: int) -> None:
    """The options of all reading commands, and SQL, choose the calls."""
    path = tmp_path / "x.cassette"
    assert lmtrace("cassette", "create", *options, "-o", str(path)).exit_code == 0
    assert len(load(path).recordings) == number


def test_create_says_what_is_wrong(history: Path, cassette: Path, lmtrace: Run, tmp_path: Path) -> None:
    """No filter, an existing file, a wrong condition and nothing found have their own words and exit codes."""
    out = ["-o", str(tmp_path / "x.cassette")]
    for options, code, words in (
        (out, 2, "say which calls"),
        (["--run", "other", "-o", str(cassette)], 2, "replace it with --force"),
        (["--where", "modell = 1", *out], 2, "model"),
        (["--run", "othr", *out], 1, "nearest: other"),
        (["--where", "false", *out], 1, "no call fits"),
    ):
        result = lmtrace("cassette", "create", *options)
        assert (result.exit_code, words in result.stderr) == (code, True), result.stderr


def test_a_credential_is_not_written(
    make_call: Callable[..., dict[str, Any]], make_store: Callable[..., Path], lmtrace: Run, tmp_path: Path
) -> None:
    """A prompt with a key in it makes no cassette, unless the user insists."""
    response = {"outputs": [{"parts": []}]}
    messages = [{"role": "user", "content": "sk-" + "a1" * 20}]
    make_store([make_call(1, messages=messages, response=response, kwargs={})])
    path = tmp_path / "x.cassette"
    result = lmtrace("cassette", "create", "--trace", "4b", "-o", str(path))
    assert result.exit_code == 1
    assert "call 1, request: something shaped like a key" in result.stderr
    assert not path.exists()
    assert lmtrace("cassette", "create", "--trace", "4b", "-o", str(path), "--allow-secrets").exit_code == 0
    assert lmtrace("cassette", "check", str(path)).exit_code == 1


def test_ls_and_stat(cassette: Path, lmtrace: Run) -> None:
    """The calls of a cassette are listed safely, and summed up."""
    listed = lmtrace("cassette", "ls", str(cassette))
    assert "Capital of France?" in listed.stdout
    assert "Madrid\\x1b[31m" in listed.stdout
    assert "✗ RateLimitError" in listed.stdout
    assert "\x1b" not in listed.stdout
    first = lines(lmtrace("cassette", "ls", str(cassette), "--json"))[0]
    assert (first["number"], first["asked"], first["answered"]) == (1, "Capital of France?", "Paris")
    figures = lines(lmtrace("cassette", "stat", str(cassette.parent), "--json"))[0]
    assert (figures["calls"], figures["errors"], round(figures["cost"], 6)) == (4, 1, 0.003)
    assert "$0.0030" in lmtrace("cassette", "stat", str(cassette)).stdout


def test_check_finds_problems(cassette: Path, lmtrace: Run, tmp_path: Path) -> None:
    """Damaged and edited cassettes fail the check; outdated ones only when asked to."""
    assert lmtrace("cassette", "check", str(tmp_path)).exit_code == 0
    text = cassette.read_text()
    outdated = re.sub(r'"versions": \{[^}]*\}', '"versions": {\n    "litellm": "0.9.1"\n  }', text)
    for content, kind, code, strict in (
        (outdated, "outdated", 0, 1),
        (text.replace("France", "Francia"), "edited", 1, 1),
        (text[:-20], "damaged", 1, 1),
        (text.replace('"format": 1', '"format": 2'), "newer", 1, 1),
    ):
        cassette.write_text(content)
        result = lmtrace("cassette", "check", str(tmp_path), "--json")
        assert ([problem["kind"] for problem in lines(result)], result.exit_code) == ([kind], code)
        assert lmtrace("cassette", "check", "--strict", str(cassette)).exit_code == strict


def test_rekey_accepts_an_edit(cassette: Path, lmtrace: Run) -> None:
    """An edited request is refused until it is accepted; then the file is as if it was recorded so."""
    original = cassette.read_text()
    cassette.write_text(original.replace("France", "Francia"))
    assert lmtrace("cassette", "ls", str(cassette)).exit_code == 1
    assert lines(lmtrace("cassette", "rekey", str(cassette), "--json"))[0]["changed"]
    assert "Francia" in lmtrace("cassette", "ls", str(cassette)).stdout
    assert not lines(lmtrace("cassette", "rekey", str(cassette), "--json"))[0]["changed"]


def test_prune(cassette: Path, lmtrace: Run) -> None:
    """Calls are taken out by number, model, scope or because they failed; a dry run changes nothing."""
    before = cassette.read_bytes()
    gone = lines(lmtrace("cassette", "prune", str(cassette), "--model", "llama3", "--dry-run", "--json"))
    assert [one["asked"] for one in gone] == ["Sum?"]
    assert cassette.read_bytes() == before
    assert lmtrace("cassette", "prune", str(cassette), "--calls", "1,3-4").exit_code == 0
    assert [one.scope for one in load(cassette).recordings] == ["Geo.answer"]
    assert lmtrace("cassette", "prune", str(cassette), "--errors").exit_code == 1
    assert lmtrace("cassette", "prune", str(cassette)).exit_code == 2
    assert lmtrace("cassette", "prune", str(cassette), "--calls", "x").exit_code == 2


def test_merge(cassette: Path, lmtrace: Run, tmp_path: Path) -> None:
    """Several cassettes become one with each call once, whatever the order; an existing file is kept."""
    other = tmp_path / "other.cassette"
    lmtrace("cassette", "create", "--scope", "Geo", "-o", str(other))
    both = tmp_path / "both.cassette"
    arguments = ["cassette", "merge", str(cassette), str(other), "-o", str(both)]
    assert lmtrace(*arguments).exit_code == 0
    assert both.read_bytes() == cassette.read_bytes()
    assert lmtrace(*arguments).exit_code == 2


def test_missing_and_wrong_files(lmtrace: Run, tmp_path: Path) -> None:
    """A file that is not there, a folder without cassettes and something else have their own words."""
    assert lmtrace("cassette", "ls", str(tmp_path / "none")).exit_code == 3
    assert lmtrace("cassette", "check", str(tmp_path)).exit_code == 1
    (tmp_path / "x.cassette").write_text("hello")
    assert "is damaged" in lmtrace("cassette", "ls", str(tmp_path / "x.cassette")).stderr


def test_why_last(cassette: Path, lmtrace: Run) -> None:
    """The misses of the last session are shown again, for people and as JSON."""
    assert (lmtrace("why", "--last").exit_code, lmtrace("why").exit_code) == (0, 2)
    recordings = load(cassette).recordings
    asked = recordings[2].request
    ledger = Ledger()
    ledger.add(explain(asked, recordings[:2], key="lm1:0", where="bug.cassette"))
    with pytest.raises(ReplayMiss):
        ledger.settle()
    result = lmtrace("why", "--last")
    assert result.exit_code == 1
    assert "no recorded answer: the prompt differs" in result.stdout
    assert lines(lmtrace("why", "--last", "--json"))[0]["reason"] == "prompt"


def test_why_against(cassette: Path, lmtrace: Run) -> None:
    """A recorded call is answered by its cassette; without it, the nearest one and the difference are named."""
    call = "0193a000-0002"
    result = lmtrace("why", call, "--against", str(cassette))
    assert (result.exit_code, "answers it: call 2" in result.stderr) == (0, True)
    lmtrace("cassette", "prune", str(cassette), "--calls", "2")
    result = lmtrace("why", call, "--against", str(cassette))
    assert result.exit_code == 1
    assert "Capital of [-France-]{+Spain+}?" in result.stdout
    assert lmtrace("why", "0193b", "--against", str(cassette)).exit_code == 1
    assert lmtrace("why", "0193a", "--against", str(cassette)).exit_code == 2
