"""What an agent does says which agent did it: Honeycomb's agent view needs the name on every span below the agent's."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import dspy
import pytest

import lmtrace
from lmtrace.testing import LoopbackProvider, ReceivedRequest

NAME = "gen_ai.agent.name"


def fields(**given: str) -> str:
    return "\n\n".join(f"[[ ## {name} ## ]]\n{text}" for name, text in given.items())


def scripted(provider: LoopbackProvider, tool: str) -> None:
    """An agent calls its tool once, then says that it is done; predictors inside of the tool answer something."""

    def reply(request: ReceivedRequest) -> str:
        asked = str(request.json["messages"])
        if "next_tool_name" not in asked:
            return fields(reasoning="so", answer="42")
        done = "observation_0" in asked
        return fields(
            next_thought="so",
            next_tool_name="finish" if done else tool,
            next_tool_args="{}" if done else '{"word": "life"}',
        )

    provider.respond(reply)


class Passages:
    """A retriever that is the program's own."""

    def __call__(self, query: str, k: int) -> list[Any]:
        return [dspy.Example(long_text=query)] * k


def everything(word: str) -> str:
    """Does what a program can do: searches, embeddings, modules, code, evaluations, threads."""
    example = dspy.Example(question=word, answer="42").with_inputs("question")
    predict = dspy.Predict("question -> answer")
    with dspy.context(rm=Passages()):
        dspy.Retrieve(k=1)(word)
    dspy.Embedder(lambda texts: [[0.0]] * len(texts))([word])
    with contextlib.suppress(Exception):  # without Deno
        dspy.PythonInterpreter(deno_command=["no-such-program"]).execute("1")
    dspy.Parallel(num_threads=2, disable_progress_bar=True)([(predict, example), (predict, example)])
    dspy.Evaluate(devset=[example], metric=lambda *_: 1.0, num_threads=2, display_progress=False)(predict)
    dspy.BootstrapFewShot(metric=lambda *_: True, max_bootstrapped_demos=1).compile(predict, trainset=[example])
    dspy.settings.lm("Why?")
    return "found"


async def aeverything(word: str) -> str:
    """The same in tasks and in a thread of asyncio's."""
    predict = dspy.Predict("question -> answer")
    await asyncio.gather(predict.acall(question=word), dspy.asyncify(everything)(word))
    return "found"


def check(spans: list[dict[str, Any]], agent: str) -> set[str]:
    """Every span below the agent's has its name, and no other one; returns the kinds of what is below, by first words."""
    root = next(span for span in spans if span["name"] == f"invoke_agent {agent}")
    inside, kinds = {root["span_id"]}, set()
    for span in spans:  # parents come first
        if span["parent_span_id"] in inside:
            inside.add(span["span_id"])
            kinds.add(span["name"].split()[0])
        assert span["attributes"].get(NAME) == (agent if span["span_id"] in inside else None), span["name"]
    return kinds


@pytest.mark.parametrize("tool", [everything, aeverything], ids=["sync", "async"])
def test_below_an_agent(lm: Any, provider: LoopbackProvider, captured: Any, tool: Any) -> None:
    """Modules, adapters, calls, tools, searches, embeddings, code, evaluations and compilations of an agent have its name."""
    scripted(provider, tool.__name__)
    agent = dspy.ReAct("question -> answer", tools=[tool])
    if tool is everything:
        agent(question="Why?")
    else:
        asyncio.run(agent.acall(question="Why?"))
    dspy.Predict("question -> answer")(question="Outside?")
    kinds = check(captured.spans, "ReAct")
    assert {
        "execute_tool", "chat", "retrieval", "Embedder", "PythonInterpreter.execute", "evaluate", "example", "compile",
        "ChatAdapter.format", "ChatAdapter.parse",
    } <= kinds  # fmt: skip
    assert any(kind.startswith("ReAct.react") for kind in kinds)
    rows = {row["name"]: row.get("attributes", {}) for row in captured.span_rows}
    assert rows[f"execute_tool {tool.__name__}"][NAME] == rows["retrieval Retrieve"][NAME] == "ReAct"


def test_streamed(lm: Any, provider: LoopbackProvider, captured: Any) -> None:
    """So it is in a streamed program, whose modules run in a thread or a task."""
    scripted(provider, "everything")

    async def main() -> None:
        program = dspy.streamify(dspy.ReAct("question -> answer", tools=[everything]))
        async for _ in program(question="Why?"):
            pass

    asyncio.run(main())
    assert "execute_tool" in check(captured.spans, "ReAct")


def test_an_agent_in_an_agent(lm: Any, provider: LoopbackProvider, captured: Any) -> None:
    """What an inner agent does has the inner one's name, and what comes after it the outer one's again."""

    class Helper(dspy.ReAct):
        pass

    def look(word: str) -> str:
        """Look a word up."""
        return "found"

    def ask(word: str) -> str:
        """Ask a helper."""
        Helper("question -> answer", tools=[look])(question=word)
        return "found"

    def reply(request: ReceivedRequest) -> str:
        asked = str(request.json["messages"])
        if "next_tool_name" not in asked:
            return fields(reasoning="so", answer="42")
        tool = "finish" if "observation_0" in asked else "ask" if "Ask a helper" in asked else "look"
        return fields(
            next_thought="so", next_tool_name=tool, next_tool_args="{}" if tool == "finish" else '{"word": "life"}'
        )

    provider.respond(reply)
    with lmtrace.conversation("c1", agent_name="Desk"):
        dspy.ReAct("question -> answer", tools=[ask])(question="Why?")
        dspy.Predict("question -> answer")(question="Why?")
    found = {span["name"]: span["attributes"][NAME] for span in captured.spans}
    helper = next(name for name in found if name.startswith("invoke_agent ") and name != "invoke_agent ReAct")
    inner = found[helper]
    assert found["invoke_agent ReAct"] == found["execute_tool ask"] == found["execute_tool finish"] == "ReAct" != inner
    assert found["execute_tool look"] == inner
    assert found["invoke_workflow Predict"] == "Desk"
    assert {span["attributes"]["gen_ai.conversation.id"] for span in captured.spans} == {"c1"}


def test_a_conversation_in_threads(lm: Any, captured: Any) -> None:
    """What DSPy runs in its threads is of the conversation around."""
    example = dspy.Example(question="Why?").with_inputs("question")
    with lmtrace.conversation("c1", agent_name="Desk"):
        pairs = [(dspy.Predict("question -> answer"), example)] * 3
        dspy.Parallel(num_threads=3, disable_progress_bar=True)(pairs)
    told = {(span["attributes"].get("gen_ai.conversation.id"), span["attributes"].get(NAME)) for span in captured.spans}
    assert told == {("c1", "Desk")}
