"""The tree of a DSPy program: what is a step, what it is called, and that all of it is one trace."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest
from rag_program import RAG

from lmtrace.testing import LoopbackProvider


def tree(captured: Any) -> list[tuple[int, str]]:
    """The spans in the order they began, each with its depth."""
    depths: dict[str | None, int] = {}
    found = []
    for span in captured.spans:
        depth = depths[span["span_id"]] = depths.get(span["parent_span_id"], -1) + 1
        found.append((depth, span["name"]))
    return found


def one_trace(captured: Any) -> bool:
    return len({span["trace_id"] for span in captured.spans}) == 1


def test_a_program(lm: Any, call: Any, captured: Any) -> None:
    """Program, modules by their names in it, adapter, LM call: nested as they were called."""
    call(RAG(), question="What is the capital of France?")
    assert tree(captured) == [
        (0, "invoke_workflow RAG"),
        (1, "RAG.query"),
        (2, "ChatAdapter.format"),
        (2, "chat gpt-4o-mini"),
        (2, "ChatAdapter.parse"),
        (1, "RAG.answer"),
        (2, "RAG.answer.predict"),
        (3, "ChatAdapter.format"),
        (3, "chat gpt-4o-mini"),
        (3, "ChatAdapter.parse"),
    ]
    first, second = captured.rows
    assert (first["scope"], first["adapter"], first["signature"]) == ("RAG.query", "ChatAdapter", "question -> search")
    assert (second["scope"], second["signature"]) == ("RAG.answer.predict", "question, context -> reasoning, answer")
    llm = next(span for span in captured.spans if span["name"].startswith("chat"))
    assert llm["attributes"]["lmtrace.dspy.adapter"] == "ChatAdapter"
    assert llm["attributes"]["lmtrace.scope"] == "RAG.query"


def test_content(lm: Any, captured: Any) -> None:
    """Inputs and outputs are in the store and on no span, unless asked for."""
    RAG()(question="What is the capital of France?")
    rows = {row["name"]: row for row in captured.span_rows}
    assert rows["invoke_workflow RAG"]["inputs"] == {"question": "What is the capital of France?"}
    assert set(rows["RAG.answer"]["outputs"]) == {"reasoning", "answer"}
    assert "France" not in str(captured.spans)


def test_a_failing_program(lm: Any, captured: Any) -> None:
    """An exception of the program's marks every step it passes, and arrives unchanged."""

    class Broken(dspy.Module):
        def forward(self, question: str) -> Any:
            raise LookupError(question)

    with pytest.raises(LookupError, match="why"):
        Broken()(question="why")
    (row,) = captured.span_rows
    assert (row["status"], row["error_type"]) == ("error", "LookupError")


def test_tools(captured: Any, call: Any) -> None:
    """A tool is a step with its name, arguments and result in the store."""

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    assert call(dspy.Tool(add), a=1, b=2) == 3
    (row,) = captured.span_rows
    assert (row["name"], row["span_kind"], row["inputs"], row["outputs"]) == (
        "execute_tool add", "tool", {"a": 1, "b": 2}, 3,
    )  # fmt: skip
    assert captured.spans[0]["attributes"]["gen_ai.operation.name"] == "execute_tool"


def test_an_agent(lm: Any, provider: LoopbackProvider, captured: Any) -> None:
    """ReAct is an agent; what it calls is below it."""

    def weather(city: str) -> str:
        """The weather."""
        return "sunny"

    replies = iter(
        [
            (
                "[[ ## next_thought ## ]]\nlook\n\n[[ ## next_tool_name ## ]]\nweather\n\n[[ ## next_tool_args ## ]]\n"
                '{"city": "Paris"}\n\n[[ ## completed ## ]]'
            ),
            (
                "[[ ## next_thought ## ]]\ndone\n\n[[ ## next_tool_name ## ]]\nfinish\n\n[[ ## next_tool_args ## ]]\n{}\n\n"
                "[[ ## completed ## ]]"
            ),
            "[[ ## reasoning ## ]]\nso\n\n[[ ## answer ## ]]\nsunny\n\n[[ ## completed ## ]]",
        ]
    )
    provider.respond(lambda request: next(replies))
    assert dspy.ReAct("question -> answer", tools=[weather])(question="Weather in Paris?").answer == "sunny"
    assert tree(captured)[0] == (0, "invoke_agent ReAct")
    assert (1, "execute_tool weather") in tree(captured)
    assert one_trace(captured)


class TestOneTrace:
    """However a program runs, its calls are below what started them; all ways are in ``test_nesting.py``."""

    def test_evaluate(self, lm: Any, captured: Any) -> None:
        """`dspy.Evaluate` is a step with its score; each example is below it."""
        examples = [dspy.Example(question=str(number), answer="x").with_inputs("question") for number in range(4)]
        evaluate = dspy.Evaluate(devset=examples, metric=lambda *_: 1.0, num_threads=4, display_progress=False)
        evaluate(dspy.Predict("question -> answer"))
        assert one_trace(captured)
        assert tree(captured)[0] == (0, "evaluate Predict")
        assert captured.spans[0]["attributes"]["gen_ai.evaluation.score.value"] == 100.0

    def test_streamify(self, lm: Any, captured: Any) -> None:
        """A streamed program; its calls are marked as streams."""

        async def main() -> list[Any]:
            with captured.tracer.start_as_current_span("mine"):
                return [item async for item in dspy.streamify(dspy.Predict("question -> answer"))(question="why")]

        assert asyncio.run(main())
        assert one_trace(captured)
        (row,) = captured.rows
        assert row["streamed"] is True


def test_an_optimiser(lm: Any, captured: Any) -> None:
    """Compiling is a step, once, and what it tries is below it."""
    examples = [dspy.Example(question=str(number), answer="x").with_inputs("question") for number in range(2)]
    optimiser = dspy.BootstrapFewShot(metric=lambda *_: True, max_bootstrapped_demos=1)
    optimiser.compile(dspy.Predict("question -> answer"), trainset=examples)
    names = [name for _, name in tree(captured)]
    assert names.count("compile BootstrapFewShot") == 1
    assert one_trace(captured)


def test_an_adapter_defined_later(lm: Any, captured: Any) -> None:
    """A class the program defines after `instrument` is seen, and what it takes from its base is one step."""

    class Mine(dspy.ChatAdapter):
        def format(self, *args: Any, **kwargs: Any) -> Any:
            return super().format(*args, **kwargs)

    with dspy.context(adapter=Mine()):
        dspy.Predict("question -> answer")(question="why")
    assert [name for _, name in tree(captured)].count("Mine.format") == 1
    assert captured.rows[0]["adapter"] == "Mine"


def test_rows_of_adapters(lm: Any, captured: Any, call: Any) -> None:
    """The steps of an adapter are stored below the module they belong to, of each module its own."""
    call(RAG(), question="What is the capital of France?")
    rows = {row["span_id"]: row for row in captured.span_rows}
    places = [
        (rows[row["parent_span_id"]]["name"], row["name"]) for row in rows.values() if "ChatAdapter" in row["name"]
    ]
    assert sorted(places) == [
        ("RAG.answer.predict", "ChatAdapter.format"),
        ("RAG.answer.predict", "ChatAdapter.parse"),
        ("RAG.query", "ChatAdapter.format"),
        ("RAG.query", "ChatAdapter.parse"),
    ]


def test_an_adapter_without_a_module(captured: Any) -> None:
    """A step that no module is around of is stored when it is over."""
    messages = dspy.ChatAdapter().format(dspy.Signature("question -> answer"), [], {"question": "why"})
    assert messages
    assert [row["name"] for row in captured.span_rows] == ["ChatAdapter.format"]


def test_an_adapter_after_its_module(lm: Any, captured: Any) -> None:
    """A step that outlives the module it was begun in, in another thread or task, is stored as well."""

    class Early(dspy.Module):
        async def aforward(self, question: str) -> Any:
            async def late() -> None:
                await asyncio.sleep(0)
                dspy.ChatAdapter().format(dspy.Signature("question -> answer"), [], {"question": question})

            return asyncio.create_task(late())

    async def program() -> None:
        await (await Early().acall(question="why"))

    asyncio.run(program())
    assert sorted(row["name"] for row in captured.span_rows) == ["ChatAdapter.format", "invoke_workflow Early"]


def test_secrets_in_steps(lm: Any, captured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential of the environment is in no row, whichever of the rows that are written together would have it."""
    monkeypatch.setenv("SERVICE_API_KEY", "a-very-private-text")
    dspy.Predict("question -> answer")(question="a-very-private-text")
    assert {row["span_kind"] for row in captured.span_rows} == {"module", "adapter"}
    assert "private" not in str(captured.span_rows)
