"""One call's record: the span, the row and the entry, for every way a call can end, sync and async alike."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from backends import PROMPT, Answering, answer, asked, drain, drain_async
from syrupy.assertion import SnapshotAssertion

import lmtrace
from lmtrace import LMOutput, LMRequest, LMTextPart, LMToolCallPart
from lmtrace._data import LMReasoningPart
from lmtrace._retry import RetryBackend
from lmtrace._traced import TracedBackend
from lmtrace.testing import Captured, capture


class ProviderError(Exception):
    """What a provider library raises."""

    __module__ = "provider"
    status_code = 429


def record_of(captured: Captured) -> dict[str, Any]:
    return {"spans": captured.spans, "rows": captured.rows, "events": captured.events}


def rich() -> Any:
    parts = (LMReasoningPart("Hm."), LMTextPart("Paris"), LMToolCallPart("call_1", "lookup", '{"q": 1}'))
    return answer(outputs=(LMOutput(parts=parts, finish_reason="tool_calls"),), metadata={"cost_source": "litellm"})


def ask_sync(backend: Any, request: LMRequest, secrets: Any) -> Any:
    return TracedBackend(backend).call(request, secrets)


def ask_async(backend: Any, request: LMRequest, secrets: Any) -> Any:
    return asyncio.run(TracedBackend(backend).acall(request, secrets))


def both(sync: Any, awaited: Any, reply: Any, request: LMRequest, **script: Any) -> list[Captured]:
    """What a call leaves, made in both ways."""
    found = []
    for way in (sync, awaited):
        with capture(content="span_and_event") as captured, suppress(ProviderError):
            way(Answering(reply, **script), request, {"api_key": "sk-0123456789"})
        found.append(captured)
    return found


CALLS: dict[str, tuple[Any, LMRequest]] = {
    "answer": (answer(), asked(kwargs={"temperature": 0.5, "max_tokens": 10, "rollout_id": 3, "stop": ["."]})),
    "rich": (rich(), asked(kwargs={"tools": [{"type": "function", "function": {"name": "lookup"}}]})),
    "candidates": (answer("Paris", "paris"), asked(kwargs={"n": 2})),
    "error": (ProviderError("too fast"), asked(server_address="api.host", server_port=443)),
    "cached": (answer(cache_hit=True), asked()),
    "replayed": (answer(metadata={"served_by": "replay"}), asked()),
    "prompt": (answer(), asked(messages=None, prompt="Paris is", model_type="text", model="custom/model")),
    "without usage": (answer(usage=None, cost=None, model=None), asked()),
}


@pytest.mark.parametrize("what", CALLS)
def test_records(what: str, snapshot: SnapshotAssertion) -> None:
    """The whole span, row and events of each kind of call; sync and async calls leave the same."""
    sync, awaited = both(ask_sync, ask_async, *CALLS[what])
    assert record_of(sync) == record_of(awaited)
    assert record_of(sync) == snapshot


@pytest.mark.parametrize("what", ["answer", "error", "cached", "without usage"])
def test_metrics(what: str, snapshot: SnapshotAssertion) -> None:
    """The measurements of each kind of call; an answer that cost nothing is only counted."""
    sync, awaited = both(ask_sync, ask_async, *CALLS[what])
    assert sync.metrics() == awaited.metrics()
    assert sync.metrics() == snapshot


def test_streams(snapshot: SnapshotAssertion) -> None:
    """A streamed answer leaves the span, the row and the events of a whole one, with the time of its first chunk."""
    request = asked(stream=True)
    sync, awaited = both(drain, lambda *args: asyncio.run(drain_async(*args)), None, request, pieces=("Pa", "ris"))
    assert record_of(sync) == record_of(awaited)
    assert record_of(sync) == snapshot


def test_the_entry(ask: Any, captured: Captured) -> None:
    """The entry, the row and the span tell of one call with the same ids."""
    response, entry = ask(Answering(), asked())
    (row,), (span,) = captured.rows, captured.spans
    assert captured.entries == [entry]
    assert entry.response is response
    assert (entry.uuid, entry.uuid) == (row["uuid"], span["attributes"]["lmtrace.call.id"])
    assert (entry.trace_id, entry.span_id) == (row["trace_id"], row["span_id"]) == (span["trace_id"], span["span_id"])
    assert (entry.timestamp, entry.duration_ms) == (row["timestamp"], row["duration_ms"])
    assert captured.finished_spans[0].start_time == entry.timestamp_ns
    assert captured.finished_spans[0].end_time == entry.timestamp_ns + int(entry.duration_ms * 1e6)


def test_every_error_passes(ask: Any, captured: Captured) -> None:
    """The provider's error is raised as it is: the same object, with its cause and its attributes."""
    error = ProviderError("too fast")
    error.__cause__ = ValueError("inner")
    with pytest.raises(ProviderError) as caught:
        ask(Answering(error), asked())
    assert caught.value is error
    assert isinstance(error.__cause__, ValueError)
    (row,) = captured.rows
    assert (row["error_type"], row["error_message"], row["error_status"]) == (
        "provider.ProviderError",
        "too fast",
        429,
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), BaseException("x")], ids=repr)
def test_interrupts_pass(error: BaseException, captured: Captured) -> None:
    """What is no Exception is recorded and passes, too."""
    with pytest.raises(type(error)) as caught:
        TracedBackend(Answering(error)).call(asked(), {})
    assert caught.value is error
    assert captured.rows[0]["error_type"] == type(error).__name__


async def test_cancellation(captured: Captured) -> None:
    """A cancelled call is a row and a span, and the task ends as cancelled."""

    class Waiting(Answering):
        async def acomplete(self, request: LMRequest, secrets: Any) -> Any:
            started.set()
            await asyncio.Event().wait()

    started = asyncio.Event()
    task = asyncio.create_task(TracedBackend(Waiting()).acall(asked(), {}))
    await started.wait()
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    assert task.cancelled()
    assert captured.rows[0]["error_type"] == "asyncio.exceptions.CancelledError"
    assert captured.spans[0]["status"] == ["ERROR", "asyncio.exceptions.CancelledError"]


@pytest.mark.parametrize("cost", ["sync", "async"])
def test_attempts_are_events(cost: str, captured: Captured) -> None:
    """A retried request is one span with an event for each failed attempt, and one row that counts them."""
    failures = [TimeoutError("slow"), ConnectionError("gone")]

    def reply(request: LMRequest, secrets: Any) -> Any:
        if failures:
            raise failures.pop(0)
        return answer()

    async def no_pause(seconds: float) -> None:
        pauses.append(seconds)

    pauses: list[float] = []
    backend = TracedBackend(RetryBackend(Answering(reply), 3, sleep=pauses.append, asleep=no_pause))
    if cost == "sync":
        backend.call(asked(), {})
    else:
        asyncio.run(backend.acall(asked(), {}))
    (span,), (row,) = captured.spans, captured.rows
    assert row["attempts"] == span["attributes"]["lmtrace.attempts"] == 3
    assert [event["attributes"]["error.type"] for event in span["events"]] == ["TimeoutError", "ConnectionError"]
    assert [event["attributes"]["lmtrace.retry.delay"] for event in span["events"]] == pauses


def test_the_request_is_kept_as_it_was(ask: Any, captured: Captured) -> None:
    """What the caller or the provider library changes during the call changes neither the row nor the span."""
    messages = [{"role": "user", "content": PROMPT}]
    kwargs = {"stop": ["."], "tools": [{"type": "function"}]}

    def reply(request: LMRequest, secrets: Any) -> Any:
        messages[0]["content"] = "changed"
        messages.append({"role": "user", "content": "changed"})
        kwargs["stop"].append("changed")
        kwargs["tools"].clear()
        return answer()

    with capture(content="span_only") as shown:
        ask(Answering(reply), asked(messages=messages, kwargs=kwargs))
    (row,), (span,) = shown.rows, shown.spans
    assert row["messages"] == [{"role": "user", "content": PROMPT}]
    assert (row["kwargs"], row["tools"]) == ({"stop": ["."]}, [{"type": "function"}])
    assert PROMPT in span["attributes"]["gen_ai.input.messages"]
    assert "changed" not in span["attributes"]["gen_ai.input.messages"]


ODD: dict[str, dict[str, Any]] = {
    "objects": {"kwargs": {"odd": object(), "set": {1}, "class": int, "function": len}},
    "numbers": {"kwargs": {"temperature": float("nan"), "max_tokens": 10**400, "seed": -(10**400), "n": "two"}},
    "huge temperature": {"kwargs": {"temperature": 10**400, "rollout_id": 10**5000}},
    "rollout": {"kwargs": {"rollout_id": {"a": (1,)}}},
    "texts": {"messages": "just text", "model": "m\ud800", "kwargs": {"stop": "\ud800", "user": "\0"}},
    "messages": {"messages": [None, 5, {"role": 3}, {"content": {1: b"x"}}], "kwargs": {}},
    "nothing": {"messages": None, "kwargs": {}},
    "names": {"kwargs": {"\ud800": 1, "$lmtrace": 2, "": 3}},
    "bytes": {"messages": b"\xff", "prompt": "\udfff"},
    "tools": {"kwargs": {"tools": "none", "response_format": object()}},
}


@pytest.mark.parametrize("content", ["no_content", "span_and_event"])
@pytest.mark.parametrize("what", ODD)
def test_odd_requests(what: str, content: str, ask: Any) -> None:
    """Whatever a request holds, the call gets its answer, and leaves a row and a span."""
    with capture(content=content) as captured:
        response, entry = ask(Answering(), asked(**ODD[what]))
    assert response == answer()
    (row,) = captured.rows
    assert (row["uuid"], len(captured.spans)) == (entry.uuid, 1)
    assert row["request_key"].startswith("lm1:")
    if ODD[what].get("messages") is not None:
        assert row["messages"] is not None


def test_runs_count_their_calls(ask: Any, captured: Captured) -> None:
    """A run knows its calls, failures, tokens and cost, and each call knows its run."""
    with lmtrace.run("evaluation", tags={"model": "small", "n": 3}) as run:
        ask(Answering(), asked())
        ask(Answering(answer(cache_hit=True)), asked())
        with pytest.raises(ProviderError):
            ask(Answering(ProviderError()), asked())
    ask(Answering(), asked())
    assert (run.calls, run.errors, run.input_tokens, run.output_tokens, run.cost) == (3, 1, 9, 1, 0.00002)
    assert [row.get("run_id") for row in captured.rows] == [run.id] * 3 + [None]
    assert captured.rows[0]["tags"] == {"model": "small", "n": "3"}
    (row,) = captured.span_rows
    assert (row["name"], row["run_id"], row["span_id"]) == ("evaluation", run.id, captured.spans[0]["span_id"])


def test_a_failed_run(captured: Captured, snapshot: SnapshotAssertion) -> None:
    """An error in the block passes and is the run's status."""
    with pytest.raises(ProviderError), lmtrace.run("evaluation"):
        raise ProviderError
    assert (captured.spans, captured.span_rows) == snapshot


def test_scopes(ask: Any, captured: Captured) -> None:
    """The modules around a call make its scope, on the span and in the row."""

    class Program:
        history: list[Any] = []  # noqa: RUF012

    with lmtrace.caller_module(Program()), lmtrace.caller_module(object(), "generate"):
        ask(Answering(), asked())
    assert captured.rows[0]["scope"] == captured.spans[0]["attributes"]["lmtrace.scope"] == "Program.generate"


def test_conversations(ask: Any, captured: Captured) -> None:
    """A conversation marks the spans of the calls in it."""
    with lmtrace.conversation("c-1", agent_name="guide"):
        ask(Answering(), asked())
    attributes = captured.spans[0]["attributes"]
    assert (attributes["gen_ai.conversation.id"], attributes["gen_ai.agent.name"]) == ("c-1", "guide")
