"""`lmtrace.LM` as the LM of a DSPy program."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import anyio.from_thread  # noqa: F401 - Python 3.11 cannot always compile it for pytest inside a thread of its own
import dspy
import pytest

import lmtrace
import lmtrace.dspy
from lmtrace.testing import LoopbackProvider, ReceivedRequest, Reply, capture

RELEASE = tuple(int(part) for part in dspy.__version__.split(".")[:2])


def answer(request: ReceivedRequest) -> Reply:
    """Fields as `ChatAdapter` asks for them."""
    return Reply(
        text="[[ ## reasoning ## ]]\nAs it is.\n\n[[ ## answer ## ]]\nFour words of text\n\n[[ ## completed ## ]]"
    )


def options(provider: LoopbackProvider, **given: Any) -> dict[str, Any]:
    return {"api_key": "sk-loopback-0123456789", "api_base": provider.openai_base, "cache": False, **given}


@pytest.fixture
def ours(provider: LoopbackProvider) -> Any:
    """Our LM for DSPy."""
    provider.respond(answer)
    return lmtrace.dspy.LM("openai/gpt-4o-mini", temperature=1.0, **options(provider))


@pytest.mark.parametrize("module", ["Predict", "ChainOfThought"])
def test_modules(provider: LoopbackProvider, ours: Any, captured: Any, call: Any, module: str) -> None:
    """Modules answer, and each call is one span and one row, in its place in the program; histories and usage are DSPy's."""
    program = getattr(dspy, module)("question -> answer")
    with dspy.context(lm=ours, track_usage=True):
        given = call(program, question="Why?")
    assert given.answer == "Four words of text"
    assert given.get_lm_usage()["openai/gpt-4o-mini"]["total_tokens"] > 0
    assert len(provider.requests) == len(captured.rows) == 1
    (row,) = captured.rows
    assert row["scope"].startswith(module)
    assert row["adapter"] == "ChatAdapter"
    assert row["model"] == "openai/gpt-4o-mini"
    assert [span["name"] for span in captured.spans].count("chat gpt-4o-mini") == 1
    assert ours.history[-1]["outputs"] == dspy.clients.base_lm.GLOBAL_HISTORY[-1]["outputs"]
    shown = io.StringIO()
    dspy.inspect_history(file=shown) if RELEASE >= (3, 3) else ours.inspect_history(file=shown)
    assert "Four words of text" in shown.getvalue()


def test_same_prompts(provider: LoopbackProvider, ours: Any) -> None:
    """What the LM says it can do is what `dspy.LM` says, so adapters make the same request of both."""
    theirs = dspy.LM("openai/gpt-4o-mini", temperature=1.0, num_retries=0, **options(provider))
    for name in ("supports_function_calling", "supports_reasoning", "supports_response_schema", "supported_params"):
        assert getattr(ours, name) == getattr(theirs, name)
    provider.respond(lambda request: Reply(text='{"answer": "x"}'))
    for lm in (ours, theirs):
        with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
            assert dspy.Predict("question -> answer")(question="Why?").answer == "x"
    one, other = (
        json.loads(request.body) if isinstance(request.body, (str, bytes)) else request.body
        for request in provider.requests
    )
    assert one["messages"] == other["messages"]
    assert one.get("response_format", {}).get("type") == other.get("response_format", {}).get("type")


def test_configured(provider: LoopbackProvider, instrumented: None) -> None:
    """With `instrument()`, ``dspy.configure(lm=lmtrace.LM(…))`` takes the LM as it is; without, `for_dspy` makes one that it takes."""
    provider.respond(answer)
    lm = lmtrace.LM("openai/gpt-4o-mini", **options(provider))
    predict = dspy.Predict("question -> answer")
    with dspy.context(lm=lm):
        assert predict(question="Why?").answer == "Four words of text"
    lmtrace.uninstrument()
    with dspy.context(lm=lm.for_dspy()):
        assert predict(question="Why?").answer == "Four words of text"
    assert len(lm.history) == 2


def test_refused(provider: LoopbackProvider, call: Any) -> None:
    """Wherever DSPy refuses an `lmtrace.LM`, whether or not anything is instrumented, its error names what it takes instead."""
    lm = lmtrace.LM("openai/gpt-4o-mini", **options(provider))
    predict, mine = dspy.Predict("question -> answer"), dspy.ChainOfThought("question -> answer")
    mine.set_lm(lm)
    with dspy.context(lm=lm), pytest.raises(ValueError, match=r"dspy\.configure\(lm=lm\.for_dspy\(\)\)"):
        call(predict, question="Why?")
    with pytest.raises(ValueError, match=r"lm\.for_dspy\(\)"):
        call(mine, question="Why?")
    lmtrace.instrument()
    try:
        with pytest.raises(ValueError, match=r"lm\.for_dspy\(\)"):
            call(mine, question="Why?")
    finally:
        lmtrace.uninstrument()
    assert not provider.requests
    assert "for_dspy" not in f"{lm!r} {lm.for_dspy()}"


def test_agent(provider: LoopbackProvider, ours: Any, call: Any) -> None:
    """An agent that calls tools natively gets them from the model and goes on with their results."""
    adapter = dspy.ChatAdapter(use_native_function_calling=True)
    asked: list[int] = []

    def add(a: int, b: int) -> int:
        asked.append(a + b)
        return a + b

    class Calc(dspy.Signature):
        question: str = dspy.InputField()
        tools: list[dspy.Tool] = dspy.InputField()
        calls: dspy.ToolCalls = dspy.OutputField()

    provider.respond(lambda request: Reply(tool_calls=[{"name": "add", "arguments": {"a": 1, "b": 2}}]))
    with dspy.context(lm=ours, adapter=adapter):
        found = call(dspy.Predict(Calc), question="1 + 2?", tools=[dspy.Tool(add)]).calls
    assert [(one.name, one.args) for one in found.tool_calls] == [("add", {"a": 1, "b": 2})]


def test_react(provider: LoopbackProvider, ours: Any, captured: Any, call: Any) -> None:
    """ReAct thinks, calls tools and answers."""
    asked: list[str] = []

    def look(word: str) -> str:
        """Look a word up."""
        asked.append(word)
        return "found"

    def react(request: ReceivedRequest) -> Reply:
        step = "finish" if asked else "look"
        arguments = "{}" if asked else '{"word": "life"}'
        fields = {
            "next_thought": "so",
            "next_tool_name": step,
            "next_tool_args": arguments,
            "reasoning": "so",
            "answer": "42",
        }
        return Reply(text="\n\n".join(f"[[ ## {name} ## ]]\n{text}" for name, text in fields.items()))

    provider.respond(react)
    with dspy.context(lm=ours):
        assert call(dspy.ReAct("question -> answer", tools=[look]), question="Why?").answer == "42"
    assert asked == ["life"]
    assert captured.rows[0]["scope"] == "ReAct.react"


def test_streamed(provider: LoopbackProvider, ours: Any) -> None:
    """Listeners of a streamed program get the answer piece by piece."""
    program = dspy.streamify(
        dspy.Predict("question -> answer"), stream_listeners=[dspy.streaming.StreamListener("answer")]
    )

    async def run() -> tuple[str, str]:
        pieces, found = "", ""
        with dspy.context(lm=ours):
            async for item in program(question="Why?"):
                if isinstance(item, dspy.Prediction):
                    found = item.answer
                elif isinstance(item, dspy.streaming.StreamResponse):
                    pieces += item.chunk
        return pieces, found

    pieces, found = asyncio.run(run())
    assert found == "Four words of text"
    assert pieces.strip() == found


def test_rollouts(provider: LoopbackProvider, ours: Any, captured: Any) -> None:
    """A copy asks with its rollout, and the copy is an LM of DSPy's as well."""
    ours.copy(rollout_id=3, temperature=0.9)("hello")
    (row,) = captured.rows
    assert (row["rollout_id"], row["temperature"]) == ("3", 0.9)
    assert isinstance(ours.copy(), dspy.BaseLM)
    assert isinstance(ours.copy(), lmtrace.LM)


def test_errors(provider: LoopbackProvider, ours: Any, call: Any) -> None:
    """Errors are DSPy's, which its modules know, with lmtrace's as their cause."""
    from dspy.utils.exceptions import ContextWindowExceededError

    provider.fail(status=400, code="context_length_exceeded", message="maximum context length is 10 tokens")
    with pytest.raises(ContextWindowExceededError) as caught:
        call(ours, "hello")
    assert isinstance(caught.value.__cause__, lmtrace.ContextWindowExceededError)


def test_saved_programs(provider: LoopbackProvider, ours: Any, tmp_path: Path) -> None:
    """A saved program holds no credential and loads with a `dspy.LM` of the same parameters."""
    program = dspy.Predict("question -> answer")
    program.set_lm(ours)
    program.save(tmp_path / "program.json")
    assert "sk-loopback" not in (tmp_path / "program.json").read_text()
    loaded = dspy.Predict("question -> answer")
    loaded.load(tmp_path / "program.json")
    assert (loaded.lm.model, loaded.lm.kwargs["temperature"]) == ("openai/gpt-4o-mini", 1.0)
    assert program.deepcopy().lm.model == ours.model


def test_callbacks(provider: LoopbackProvider, ours: Any, call: Any) -> None:
    """DSPy's callbacks are told once of each call."""
    from dspy.utils.callback import BaseCallback

    class Told(BaseCallback):
        def __init__(self) -> None:
            self.told: list[str] = []

        def on_lm_start(self, call_id: str, instance: Any, inputs: Any) -> None:
            self.told.append("start")

        def on_lm_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
            self.told.append("end")

    everywhere, here = Told(), Told()
    ours.callbacks.append(here)
    with dspy.context(callbacks=[everywhere]):
        call(ours, "hello")
    assert everywhere.told == here.told == ["start", "end"]


def test_replayed(provider: LoopbackProvider, ours: Any, tmp_path: Path) -> None:
    """A session records and replays its calls, once each."""
    predict = dspy.Predict("question -> answer")
    with dspy.context(lm=ours):
        with lmtrace.replay(tmp_path / "c.cassette", mode="rewrite"):
            recorded = predict(question="Why?").answer
        with lmtrace.replay(tmp_path / "c.cassette") as session:
            assert predict(question="Why?").answer == recorded
    assert [one.served_by for one in session.calls] == ["replay"]
    assert len(provider.requests) == 1


def test_cached(provider: LoopbackProvider, ours: Any, call: Any) -> None:
    """Its cache is the store's; a hit is no usage for DSPy."""
    lm = ours.copy(cache=True)
    predict = dspy.Predict("question -> answer")
    with dspy.context(lm=lm, track_usage=True):
        first, again = (call(predict, question="Why?") for _ in range(2))
    assert first.answer == again.answer
    assert again.get_lm_usage() == {}
    assert len(provider.requests) == 1


def test_typed_requests(ours: Any) -> None:
    """A typed request is refused with what to use instead."""
    with pytest.raises(Exception, match="typed requests use"):
        ours(object())


def test_capture_once(ours: Any, instrumented: None) -> None:
    """Called without a module around it, a call is recorded once as well."""
    with capture() as captured:
        ours("hello")
    assert len(captured.rows) == 1
