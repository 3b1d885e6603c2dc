"""However DSPy runs a program, it is one trace, and each run of the program has its own steps and calls below it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import dspy
import pytest
from rag_program import RAG

RUNS = 4


TREE = (
    "invoke_workflow RAG",
    (
        ("RAG.query", (("ChatAdapter.format", ()), ("chat gpt-4o-mini", ()), ("ChatAdapter.parse", ()))),
        (
            "RAG.answer",
            (
                (
                    "RAG.answer.predict",
                    (("ChatAdapter.format", ()), ("chat gpt-4o-mini", ()), ("ChatAdapter.parse", ())),
                ),
            ),
        ),
    ),
)
"""One run of the program."""

PROGRAM = ("invoke_workflow RAG", "Twice.rag")
"""What its outermost span is called, alone and inside another program."""

QUESTIONS = [f"Question {number}?" for number in range(RUNS)]
EXAMPLES = [dspy.Example(question=question, answer="x").with_inputs("question") for question in QUESTIONS]


def parallel() -> None:
    program = RAG()
    dspy.Parallel(num_threads=RUNS, disable_progress_bar=True)([(program, example) for example in EXAMPLES])


def batch() -> None:
    RAG().batch(EXAMPLES, num_threads=RUNS, disable_progress_bar=True)


def evaluate() -> None:
    dspy.Evaluate(devset=EXAMPLES, metric=lambda *_: 1.0, num_threads=RUNS, display_progress=False)(RAG())


def parallel_in_evaluate() -> None:
    """Threads that start threads."""

    class Twice(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rag = RAG()

        def forward(self, question: str) -> Any:
            pairs = [(self.rag, dspy.Example(question=f"{question} {n}").with_inputs("question")) for n in range(2)]
            return dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)[0]

    devset = EXAMPLES[: RUNS // 2]
    dspy.Evaluate(devset=devset, metric=lambda *_: 1.0, num_threads=2, display_progress=False)(Twice())


def gather() -> None:
    async def main() -> None:
        await asyncio.gather(*(RAG().acall(question=question) for question in QUESTIONS))

    asyncio.run(main())


def asyncify() -> None:
    async def main() -> None:
        program = dspy.asyncify(RAG())
        await asyncio.gather(*(program(question=question) for question in QUESTIONS))

    asyncio.run(main())


def streamify() -> None:
    async def one(program: Any, question: str) -> None:
        async for _ in program(question=question):
            pass

    async def main() -> None:
        program = dspy.streamify(RAG())
        await asyncio.gather(*(one(program, question) for question in QUESTIONS))

    asyncio.run(main())


def streamify_async() -> None:
    """The program itself is async."""

    async def one(program: Any, question: str) -> None:
        async for _ in program(question=question):
            pass

    async def main() -> None:
        program = dspy.streamify(RAG(), is_async_program=True)
        await asyncio.gather(*(one(program, question) for question in QUESTIONS))

    asyncio.run(main())


def streamify_sync() -> None:
    """Read without asyncio: DSPy streams in a thread of its own."""
    for question in QUESTIONS:
        for _ in dspy.streamify(RAG(), async_streaming=False)(question=question):
            pass


@pytest.fixture
def engine() -> dict[str, Any]:
    """Whichever this version prefers; what is nested in what does not depend on it."""
    return {}


ABOVE: dict[Callable[[], None], tuple[str, ...]] = {
    parallel: (),
    batch: (),
    evaluate: ("evaluate RAG", "example"),
    parallel_in_evaluate: ("evaluate Twice", "example", "invoke_workflow Twice"),
    gather: (),
    asyncify: (),
    streamify: (),
    streamify_async: (),
    streamify_sync: (),
}
"""Ways to run the program four times, and the steps between the caller's own span and each run."""


@pytest.mark.parametrize("run", ABOVE, ids=lambda run: run.__name__)
def test_one_trace(run: Callable[[], None], lm: Any, captured: Any) -> None:
    """Each run is below the span of the caller; its steps and calls are below it, and no others; rows have the same ids."""
    with captured.tracer.start_as_current_span("mine"):
        run()
    spans = {span["span_id"]: span for span in captured.spans}
    assert len({span["trace_id"] for span in spans.values()}) == 1
    runs = [span for span in spans.values() if span["name"] in PROGRAM]
    assert len(runs) == RUNS
    for one in runs:
        assert ancestors(one, spans) == ("mine", *ABOVE[run])
        assert below(one, list(spans.values()))[1] == relative(TREE, one["name"])
    asked: dict[str, list[str]] = {}
    for row in captured.rows:
        span = spans[row["span_id"]]
        assert (row["trace_id"], row["parent_span_id"]) == (span["trace_id"], span["parent_span_id"])
        asked.setdefault(program_of(span, spans), []).append(question_in(row))
    assert sorted(map(len, asked.values())) == [2] * RUNS
    assert len({question for questions in asked.values() for question in questions}) == RUNS
    assert all(len(set(questions)) == 1 for questions in asked.values())


def question_in(row: dict[str, Any]) -> str:
    """The question a call was about."""
    text = row["messages"][-1]["content"]
    return str(text).partition("[[ ## question ## ]]")[2].strip().splitlines()[0]


def program_of(span: dict[str, Any], spans: dict[str, Any]) -> str:
    """The id of the run that a span is part of."""
    while span["name"] not in PROGRAM:
        span = spans[span["parent_span_id"]]
    return str(span["span_id"])


def ancestors(span: dict[str, Any], spans: dict[str, Any]) -> tuple[str, ...]:
    """The names of the spans above, outermost first, without numbers of examples."""
    parent = spans.get(span["parent_span_id"])
    return () if parent is None else (*ancestors(parent, spans), re.sub(r" \d+$", "", parent["name"]))


def below(span: dict[str, Any], spans: list[dict[str, Any]]) -> tuple[str, Any]:
    """The tree of names from a span down."""
    children = (other for other in spans if other["parent_span_id"] == span["span_id"])
    return span["name"], tuple(below(child, spans) for child in children)


def relative(tree: Any, name: str) -> Any:
    """What is below one run, named as it is inside the program of that name."""
    prefix = "RAG" if name.startswith("invoke_workflow") else name
    return tuple((child.replace("RAG", prefix), relative((child, rest), name)) for child, rest in tree[1])
