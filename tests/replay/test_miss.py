"""Why a request has no recorded answer, and that nobody can overlook it."""

from __future__ import annotations

import contextlib
import pickle
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtrace._data import LMRequest
from lmtrace._keys import request_key
from lmtrace_replay import Miss, ReplayMiss
from lmtrace_replay._explain import explain
from lmtrace_replay._last import last_misses, last_misses_path
from lmtrace_replay._ledger import Ledger
from lmtrace_replay._recording import Recording
from lmtrace_replay._words import word_diff

SYSTEM = "Answer briefly. Today is 2026-11-20."


def request(text: str, system: str = SYSTEM, model: str = "openai/gpt-4o-mini", **kwargs: Any) -> LMRequest:
    """A chat request with a system message."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    return LMRequest(model=model, messages=messages, kwargs=kwargs)


def recordings(*requests: LMRequest) -> list[Recording]:
    return [Recording(request=one) for one in requests]


def why(asked: LMRequest, *recorded: LMRequest, **more: Any) -> Miss:
    return explain(asked, recordings(*recorded), key=request_key(asked), where="bug.cassette", **more)


def test_reason_names_what_differs() -> None:
    """The reason is the part of the request that differs from the nearest recording."""
    base = request("Capital of France?", temperature=0.5)
    assert why(base).reason == "no cassette"
    assert why(base, base).reason == "exhausted"
    assert why(request("Capital of France?", temperature=0.5, rollout_id=2), base).reason == "rollout"
    assert why(request("Capital of France?", temperature=1), base).reason == "parameters"
    assert why(request("Capital of France?", temperature=0.5, model="m"), base).reason == "model"
    assert why(request("Capital of Spain?", temperature=0.5), base).reason == "prompt"


def test_nearest_is_the_most_alike() -> None:
    """Equal fields count first, then equal messages, then likeness of the first message that differs."""
    others = [request(f"Question {n} about something else entirely?") for n in range(20)]
    near = request("What is the capital of France, and why is it the capital?")
    miss = why(request("What is the capital of Spain, and why is it the capital?"), *others, near, *others)
    assert miss.nearest is not None
    assert miss.nearest.number == 21
    assert "[-France-]{+Spain+}" in miss.nearest.diff
    assert (miss.nearest.message, miss.nearest.role) == (2, "user")


def test_nearest_is_of_the_same_operation() -> None:
    """A text completion is not explained by a chat, however alike they are."""
    asked = LMRequest(model="m", model_type="text", prompt="Capital of Spain?")
    chat = LMRequest(model="m", messages=[{"role": "user", "content": "Capital of Spain?"}])
    text = LMRequest(model="m", model_type="text", prompt="Something else")
    miss = why(asked, chat, text)
    assert miss.nearest is not None
    assert miss.nearest.number == 2


@pytest.mark.parametrize(
    ("recorded", "asked", "cause"),
    [
        ("Today is 2026-11-20.", "Today is 2026-11-21.", "a date or time"),
        ("It is 20 November 2026, 10:15", "It is 21 November 2026, 11:02", "a date or time"),
        (
            "id 0193a000-0001-7000-8000-000000000001",
            "id 8a6e0804-2bd0-4672-b79d-d97027f9071a",
            "a uuid",
        ),
        ("Read /tmp/pytest-1/a.txt now", "Read /tmp/pytest-2/b.txt now", "a file path"),
        ("Take 3 of 10", "Take 4 of 12", "a number"),
        ("One  two\n", "One two", "white space"),
        ('Use {"b": 1, "a": 2}', 'Use {"a": 2, "b": 1}', "the order of keys in JSON"),
        ("At 2026-11-20 take 3 pills", "At 2026-11-21 take 4 pills", "a number"),
        ("Hello", "hello", "upper and lower case"),
    ],
)
def test_probable_cause(recorded: str, asked: str, cause: str) -> None:
    """A difference that one rule explains wholly is named."""
    said = why(request("Go.", asked), request("Go.", recorded)).cause
    assert said is not None
    assert said.startswith(f"differs only by {cause}")


def test_cause_in_a_long_prompt() -> None:
    """In a prompt of a megabyte the part that differs is looked at; the whole difference must be explained there, too."""
    long = "word " * 200_000
    miss = why(request("Go.", f"{long}2026-11-21 {long}"), request("Go.", f"{long}2026-11-20 {long}"))
    assert (miss.cause or "").startswith("differs only by a date")
    assert why(request("Go.", f"2026-11-21 {long} a"), request("Go.", f"2026-11-20 {long} b")).cause is None


@pytest.mark.parametrize(
    "text", ["[" * 20_000, "<a" * 10_000, "1." * 10_000, "a" * 20_000, "/x" * 10_000, " \t" * 10_000]
)
def test_hostile_texts_take_no_time(text: str) -> None:
    """No text makes the search for a cause slow."""
    before = time.process_time()
    why(
        request(f"{text} b", f"All interactions will be structured in the following way {text}"),
        request(f"{text} c", text),
    )
    assert time.process_time() - before < 5


def test_no_cause_is_made_up() -> None:
    """A difference in words beside a date is not called a date."""
    assert why(request("Go, on 2026-11-21"), request("Stop, on 2026-11-20")).cause is None


def test_the_same_place_is_preferred() -> None:
    """Of equally alike recordings the one from the task, or the module, that asks is the nearest."""
    asked = request("Something else")
    stored = [Recording(request=request("a b"), path=f"0.{n}", scope=f"S.{n}") for n in range(9)]
    by_path = explain(asked, stored, key="k", path="0.5", scope="S.1").nearest
    by_scope = explain(asked, stored, key="k", scope="S.3").nearest
    assert by_path is not None
    assert by_scope is not None
    assert (by_path.number, by_scope.number) == (6, 4)


def test_not_every_miss_of_thousands_is_searched() -> None:
    """A search that is not thorough looks at the same place first, wherever that recording is."""
    stored = [Recording(request=request(f"Question {n}"), path=f"0.{n}") for n in range(1_000)]
    near = explain(request("Question 700!"), stored, key="k", path="0.700", thorough=False).nearest
    assert near is not None
    assert near.number == 701


def test_added_and_missing_messages() -> None:
    """A message that came or went while the others stayed is the cause."""
    short = LMRequest(model="m", messages=[{"role": "user", "content": "a"}])
    long = LMRequest(model="m", messages=[{"role": "system", "content": "s"}, {"role": "user", "content": "a"}])
    assert why(long, short).cause == "message 1 (system) is not in the recording"
    assert why(short, long).cause == "message 1 (system) is in the recording only"


def test_another_adapter() -> None:
    """Prompts that two DSPy adapters wrote are recognised."""
    chat = "All interactions will be structured in the following way\n\n[[ ## question ## ]]\n{question}"
    json = "All interactions will be structured in the following way\nOutputs will be a JSON object"
    cause = why(request("q", json), request("q", chat)).cause
    assert cause == "another DSPy adapter: JSONAdapter instead of ChatAdapter"


def test_report_says_everything() -> None:
    """The message has reason, caller, nearest recording, diff, cause and the command that helps."""
    miss = why(
        request("Go.", "Today is 2026-11-21."),
        request("Go.", "Today is 2026-11-20."),
        scope="RAG.answer",
        path="0.3",
        fix="do this",
    )
    text = str(ReplayMiss(miss))
    for part in (
        "the prompt differs",
        "openai/gpt-4o-mini by RAG.answer, task 0.3",
        "bug.cassette, 1 recording",
        "nearest   recording 1",
        "Today is 2026-11-[-20-]{+21+}.",
        "differs only by a date",
        "fix       do this",
        miss.key,
    ):
        assert part in text


def test_fix_is_a_command_of_the_running_test() -> None:
    """Under pytest the fix names the test; it can be pasted."""
    assert "tests/replay/test_miss.py::test_fix" in why(request("a")).fix
    assert "--lmtrace-mode=record-missing" in why(request("a")).fix
    assert "--lmtrace-mode=rewrite" in why(request("a"), request("b")).fix


def test_terminal_gets_no_control_characters() -> None:
    """What a model or a user wrote is shown, never sent."""
    text = str(ReplayMiss(why(request("\x1b[31mred\u202e", "a\x07b"), request("x\x1b]0;t\x07", "b\x9bc"))))
    assert not set(text) & set("\x1b\x07\u202e\x9b")
    assert "\\x1b[31mred\\u202e" in text


def test_long_prompts_are_cut() -> None:
    """A megabyte of prompt gives a report that fits a screen, soon."""
    old, new = ("".join(f"{word}{i} " for i in range(100_000)) for word in ("alpha", "beta"))
    before = time.thread_time()
    text = str(ReplayMiss(why(request(new), request(old))))
    assert time.thread_time() - before < 5
    assert len(text) < 4_000


def test_report_holds_no_known_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of the environment, and what is shaped like a key, are in no text of a miss."""
    monkeypatch.setenv("ACME_API_KEY", "acme-secret-4711-value")
    shaped = "sk-" + "a1" * 20
    asked = request(f"Use acme-secret-4711-value and {shaped}", stop=shaped)
    miss = why(asked, request("Use nothing", stop=f"{shaped}2"))
    assert "acme-secret-4711" not in str(miss.to_wire())
    assert shaped not in str(miss.to_wire())


def test_a_miss_survives_json_and_pickle() -> None:
    """A miss is plain data: it crosses processes whole."""
    miss = why(request("a", temperature=1, rollout_id=3), request("b", temperature=2), scope="s", path="0.1")
    assert Miss.from_wire(miss.to_wire()) == miss
    assert pickle.loads(pickle.dumps(ReplayMiss(miss, miss))).misses == (miss, miss)


def test_only_base_exceptions_catch_it() -> None:
    """An ``except Exception`` does not swallow a miss."""

    def swallowing() -> None:
        with contextlib.suppress(Exception):
            raise ReplayMiss(why(request("a")))

    with pytest.raises(ReplayMiss):
        swallowing()


def test_ledger_raises_all_misses_once_listed_once() -> None:
    """The end of a session reports every miss, the first divergence first and equal ones once with their number."""
    ledger = Ledger()
    ledger.settle()
    first, second = why(request("first")), why(request("second"))
    for miss in (first, second, second, first):
        assert ledger.add(miss).miss is miss
    with pytest.raises(ReplayMiss) as caught:
        ledger.settle()
    text = str(caught.value)
    assert caught.value.misses == (first, second, second, first)
    assert "nothing is recorded (2 times)" in text
    assert "then 1 more:" in text
    assert text.count("second") == 1


def test_the_last_misses_are_kept() -> None:
    """What a session ended with can be read afterwards, from a private file of plain JSON."""
    assert last_misses() == ()
    ledger = Ledger()
    ledger.add(why(request("first")))
    with pytest.raises(ReplayMiss):
        ledger.settle()
    assert last_misses() == ledger.misses
    assert last_misses_path().stat().st_mode & 0o077 == 0


def test_ten_thousand_recordings_are_searched_quickly() -> None:
    """The nearest of 10,000 recordings of 5 KB is found in well under the time a person waits, edits and all."""
    chance = random.Random(7)
    vocabulary = ["".join(chance.choices("abcdefghijklmnop", k=chance.randint(2, 9))) for _ in range(3_000)]
    prompts = [" ".join(chance.choices(vocabulary, k=800)) for _ in range(10_000)]
    edited = prompts[7_000].split()
    edited[100], edited[600] = "CHANGED", "ALSO"
    edited.insert(300, "new words here")
    stored = recordings(*(request(prompt) for prompt in prompts))
    asked = request(" ".join(edited))
    before = time.thread_time()
    miss = explain(asked, stored, key=request_key(asked))
    assert time.thread_time() - before < 5
    assert miss.nearest is not None
    assert miss.nearest.number == 7_001
    assert "{+CHANGED+}" in miss.nearest.diff


@given(st.text(), st.text())
def test_word_diff_of_anything(old: str, new: str) -> None:
    """Any two texts have a diff; equal ones one without a change."""
    diff = word_diff(old, new)
    assert isinstance(diff, str)
    if old == new:
        assert "[-" not in diff.replace(old, "")
