"""`lmtrace diff`: which calls belong together, what changed in them, and what that cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from lmtrace._cli._words import word_pieces

Command = Callable[..., Result]
MakeCall = Callable[..., dict[str, Any]]

FIRST = {"run_id": "0193a000-0000-7000-8000-00000000000a", "run_name": "rag-v1"}
SECOND = {"run_id": "0193a000-0000-7000-8000-00000000000b", "run_name": "rag-v2"}


def asking(question: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Answer in one word."}, {"role": "user", "content": question}]


@pytest.fixture
def runs(make_call: MakeCall, make_store: Callable[[list[dict[str, Any]]], Path]) -> Path:
    """Two runs of a program: an equal call, one with another prompt and answer, and one that only the second makes."""
    france = {"messages": asking("Capital of France?"), "outputs": ["Paris"], "scope": "RAG.answer", "cost": 0.001}
    size = {"scope": "RAG.size", "input_tokens": 100, "output_tokens": 10}
    return make_store(
        [
            make_call(1, **FIRST, **france),
            make_call(2, **FIRST, **size, messages=asking("How large is it?"), outputs=["Large"], cost=0.002),
            make_call(3, **SECOND, **size, messages=asking("How large is it now?"), outputs=["Larger"], cost=0.003),
            make_call(4, **SECOND, **france),
            make_call(5, **SECOND, messages=asking("Anything else?"), outputs=["No"], scope="RAG.more"),
        ]
    )


@pytest.mark.parametrize("names", [("rag-v1", "rag-v2"), ("last~1", "last"), ("0000000a", "0000000b")])
def test_runs(lmtrace: Command, runs: Path, names: tuple[str, str]) -> None:
    """Calls are paired whatever their order; the differing words are marked, sums have their difference."""
    done = lmtrace("diff", *names)
    assert done.exit_code == 1
    assert "1 same · 1 changed · 1 only B" in done.stdout
    assert "user: How large is it{+ now+}?" in done.stdout
    assert "answer: [-Large-]{+Larger+}" in done.stdout
    assert "+$0.0010 (+33%)" in done.stdout
    assert "France" not in done.stdout


def test_same(lmtrace: Command, runs: Path) -> None:
    """What is equal ends with 0."""
    assert lmtrace("diff", "rag-v1", "rag-v1").exit_code == 0


def test_stat(lmtrace: Command, runs: Path) -> None:
    """With --stat there are figures and no texts."""
    done = lmtrace("diff", "rag-v1", "rag-v2", "--stat")
    assert (done.exit_code, "Large" in done.stdout, "1 changed" in done.stdout) == (1, False, True)


def test_json(lmtrace: Command, runs: Path) -> None:
    """As JSON there is a line of sums and one for each pair, with the words of each change."""
    total, *pairs = (json.loads(line) for line in lmtrace("diff", "rag-v1", "rag-v2", "--json").stdout.splitlines())
    assert total["delta"]["calls"] == 1
    assert [pair["state"] for pair in pairs] == ["same", "changed", "only B"]
    assert pairs[1]["changes"][-1] == {"where": "answer", "words": [["-", "Large"], ["+", "Larger"]]}
    assert pairs[1]["delta"]["cost"] == pytest.approx(0.001)


def test_calls(lmtrace: Command, runs: Path, make_call: MakeCall) -> None:
    """Two calls are compared whatever they are."""
    first, second = make_call(2)["uuid"], make_call(3)["uuid"]
    done = lmtrace("diff", first, second)
    assert (done.exit_code, "[-Large-]{+Larger+}" in done.stdout) == (1, True)


def test_rollouts(lmtrace: Command, make_call: MakeCall, make_store: Callable[[list[dict[str, Any]]], Path]) -> None:
    """CALL@ID is the same request with another rollout id, RUN@ID the calls of a run with it."""
    key = {"request_key": "lm1:a", "messages": asking("Say a number."), **FIRST}
    make_store([make_call(n, rollout_id=str(n), outputs=[answer], **key) for n, answer in ((1, "One"), (2, "Two"))])
    uuid = make_call(1)["uuid"]
    for names in ((f"{uuid}@1", f"{uuid}@rollout=2"), ("rag-v1@1", "rag-v1@2")):
        done = lmtrace("diff", *names)
        assert (done.exit_code, "answer: [-One-]{+Two+}" in done.stdout) == (1, True)
    assert "no rollout '7', but 1, 2" in lmtrace("diff", f"{uuid}@7", uuid).stderr


def test_parameters_and_errors(lmtrace: Command, make_call: MakeCall, make_store: Callable[..., Path]) -> None:
    """Another temperature or model, and a failure, are differences; another latency is none."""
    same = {"messages": asking("Hello?"), "outputs": ["Hi"], "kwargs": {"temperature": 0.5}}
    make_store(
        [
            make_call(1, **same),
            make_call(2, **same, duration_ms=9.0),
            make_call(3, **{**same, "kwargs": {"temperature": 1.0}}, model="openai/gpt-4o"),
            make_call(4, **{**same, "outputs": None}, error_type="TimeoutError", error_message="too slow"),
        ]
    )
    uuids = [make_call(number)["uuid"] for number in range(5)]
    assert lmtrace("diff", uuids[1], uuids[2]).exit_code == 0
    changed = lmtrace("diff", uuids[1], uuids[3]).stdout
    assert "model: [-openai/gpt-4o-mini-]{+openai/gpt-4o+}" in changed
    assert "temperature: [-0.5-]{+1.0+}" in changed
    assert "error: {+TimeoutError: too slow+}" in lmtrace("diff", uuids[1], uuids[4]).stdout


def test_long_names(
    lmtrace: Command, make_call: MakeCall, make_store: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the names of two runs are, they are whole, and the table of figures fits a narrow terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    long = {letter: f"an-experiment-with-a-name-that-says-everything-{letter}" for letter in "ab"}
    make_store(
        [
            make_call(number, run_id=run["run_id"], run_name=long[letter])
            for number, run, letter in ((1, FIRST, "a"), (2, SECOND, "b"))
        ]
    )
    shown = lmtrace("diff", long["a"], long["b"], "--stat").stdout.splitlines()
    assert shown[0].startswith(f"A  {long['a']}")
    assert shown[1].startswith(f"B  {long['b']}")
    assert max(map(len, shown)) <= 80


def test_unknown(lmtrace: Command, runs: Path) -> None:
    """A name that is not there is answered with the nearest that is."""
    done = lmtrace("diff", "rag-v3", "rag-v2")
    assert (done.exit_code, "nearest: rag-v" in done.stderr) == (1, True)
    assert lmtrace("diff", "last~9", "last").exit_code == 1


def test_control_characters(lmtrace: Command, make_call: MakeCall, make_store: Callable[..., Path]) -> None:
    """What models say cannot command the terminal."""
    make_store(
        [
            make_call(1, messages=asking("a"), outputs=["y"]),
            make_call(2, messages=asking("a"), outputs=["\x1b]52;x\x07[red]"]),
        ]
    )
    shown = lmtrace("diff", make_call(1)["uuid"], make_call(2)["uuid"]).stdout
    assert "\x1b" not in shown
    assert r"[-y-]{+\x1b]52;x\x07[red]+}" in shown


@given(st.text("ab \n.", max_size=60), st.text("ab \n.", max_size=60))
def test_words_are_whole(before: str, after: str) -> None:
    """The pieces of a difference make up both texts again, and equal texts have no difference."""
    pieces = word_pieces(before, after)
    assert "".join(piece.text for piece in pieces if piece.kind != "+") == before
    assert "".join(piece.text for piece in pieces if piece.kind != "-") == after
    assert (before == after) == all(piece.kind == "=" for piece in pieces)


def test_long_texts() -> None:
    """A megabyte that changed in one place is compared at once."""
    lines = [f"line {number} of a long prompt\n" for number in range(30_000)]
    changed = [*lines]
    changed[15_000] = "line that was changed\n"
    pieces = word_pieces("".join(lines), "".join(changed))
    assert "".join(piece.text for piece in pieces if piece.kind != "-") == "".join(changed)
    assert sum(len(piece.text) for piece in pieces if piece.kind != "=") < 100
