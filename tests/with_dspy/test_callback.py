"""`lmtrace.Callback`: DSPy programs recorded without patching anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dspy
import pytest

import lmtrace
from lmtrace.testing import LoopbackProvider, ReceivedRequest, Reply, capture


def answer(request: ReceivedRequest) -> Reply:
    """Fields as `ChatAdapter` asks for them."""
    return Reply(text="[[ ## reasoning ## ]]\nso\n\n[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]")


@pytest.fixture
def told(provider: LoopbackProvider, lm: Any) -> Iterator[Any]:
    """What is recorded while only the callback is there."""
    provider.respond(answer)
    lmtrace.uninstrument()
    with capture() as captured, dspy.context(callbacks=[lmtrace.Callback()]):
        yield captured


def shape(spans: Any) -> set[tuple[str, str | None]]:
    """Names of spans, each with that of its parent."""
    names = {span["span_id"]: span["name"] for span in spans}
    return {(span["name"], names.get(span["parent_span_id"])) for span in spans}


def test_same_record(provider: LoopbackProvider, lm: Any, told: Any, call: Any) -> None:
    """Spans and rows are those of `instrument()`."""
    program = dspy.ChainOfThought("question -> answer")
    call(program, question="Why?")
    with capture() as other:
        lmtrace.instrument()
        call(program, question="Why?")
        lmtrace.uninstrument()
    (ours,), (theirs,) = told.rows, other.rows
    same = (
        "model",
        "scope",
        "adapter",
        "signature",
        "messages",
        "outputs",
        "input_tokens",
        "output_tokens",
        "cost",
        "usage",
    )
    assert {name: ours.get(name) for name in same} == {name: theirs.get(name) for name in same}
    assert ours["input_tokens"]
    assert shape(told.spans) == shape(other.spans)


def test_threads(provider: LoopbackProvider, told: Any) -> None:
    """What an evaluation runs in threads is in its trace, and in its program's place."""
    devset = [dspy.Example(question=str(number), answer="Paris").with_inputs("question") for number in range(6)]
    metric = lambda example, prediction, trace=None: example.answer == prediction.answer  # noqa: E731
    dspy.Evaluate(devset=devset, metric=metric, num_threads=3, display_progress=False)(
        dspy.Predict("question -> answer")
    )
    assert len(told.rows) == 6
    assert len({row["trace_id"] for row in told.rows}) == 1
    assert {row["scope"] for row in told.rows} == {"Predict"}


def test_errors(provider: LoopbackProvider, told: Any, call: Any) -> None:
    """A failed call is a row, and the program gets its error."""
    provider.fail(status=401)
    with pytest.raises(Exception):  # noqa: B017, PT011 - each version's own
        call(dspy.settings.lm, "hello")
    (row,) = told.rows
    assert row["error_type"]


def test_once(provider: LoopbackProvider, told: Any, call: Any) -> None:
    """Beside `instrument()` it records nothing twice."""
    lmtrace.instrument()
    call(dspy.Predict("question -> answer"), question="Why?")
    lmtrace.uninstrument()
    assert len(told.rows) == 1
