"""`instrument()` for LiteLLM called directly: one row and one span a call, and the program notices nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import litellm
import pytest
from litellm import completion as completion_taken_before
from opentelemetry import trace
from warm import Warm

from lmtrace import _recorder
from lmtrace._data import LMRequest
from lmtrace._traced import TracedBackend
from lmtrace.integrations.litellm import LiteLLMBackend, instrument, uninstrument
from lmtrace.testing import LoopbackProvider, Reply

sys.path.insert(0, str(Path(__file__).parent))

from capture import KEY, Captured

MESSAGES = [{"role": "user", "content": "Mention tea."}]
CHAT = "openai/gpt-4o-mini"
TEXT = "text-completion-openai/gpt-3.5-turbo-instruct"
EMBEDDING = "openai/text-embedding-3-small"

SYNC: dict[str, Callable[..., Any]] = {
    "chat": lambda **kwargs: litellm.completion(CHAT, MESSAGES, **kwargs),
    "text": lambda **kwargs: litellm.text_completion("Mention tea.", TEXT, **kwargs),
    "responses": lambda **kwargs: litellm.responses(model=CHAT, input="Mention tea.", **kwargs),
    "embedding": lambda **kwargs: litellm.embedding(EMBEDDING, ["Mention tea."], **kwargs),
}
ASYNC: dict[str, Callable[..., Awaitable[Any]]] = {
    "chat": lambda **kwargs: litellm.acompletion(CHAT, MESSAGES, **kwargs),
    "text": lambda **kwargs: litellm.atext_completion(model=TEXT, prompt="Mention tea.", **kwargs),
    "responses": lambda **kwargs: litellm.aresponses("Mention tea.", CHAT, **kwargs),
    "embedding": lambda **kwargs: litellm.aembedding(EMBEDDING, ["Mention tea."], **kwargs),
}
MODELS = {"chat": CHAT, "text": TEXT, "responses": CHAT, "embedding": EMBEDDING}


def assert_recorded(captured: Captured, kind: str, *, streamed: bool = False) -> None:
    row, (span,) = captured.row, captured.spans
    assert (row["model"], row["model_type"], row["streamed"]) == (MODELS[kind], kind, streamed)
    assert row["attempts"] == 1
    assert row.get("error_type") is None
    assert span.context is not None
    assert row["span_id"] == f"{span.context.span_id:016x}"
    assert span.attributes is not None
    assert span.attributes["gen_ai.provider.name"] == "openai"
    assert span.attributes["server.address"] == "127.0.0.1"
    assert KEY not in str(row)
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("kind", SYNC)
def test_a_call_is_one_row_and_one_span(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any], kind: str
) -> None:
    """However many functions of LiteLLM it goes through, with usage and cost."""
    SYNC[kind](**openai)
    assert_recorded(instrumented, kind)
    assert instrumented.row["input_tokens"] > 0
    assert instrumented.row["cost"] > 0
    assert "Mention tea." in str(instrumented.row["messages"] if kind != "text" else instrumented.row["prompt"])


@pytest.mark.parametrize("kind", ASYNC)
async def test_an_async_call_is_one_row_and_one_span(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any], kind: str
) -> None:
    """The async functions call the sync ones in threads; that is still one call."""
    await ASYNC[kind](**openai)
    assert_recorded(instrumented, kind)
    assert instrumented.row["cost"] > 0


@pytest.mark.parametrize("kind", ["chat", "text", "responses"])
def test_a_stream_is_recorded_when_it_ends(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any], kind: str
) -> None:
    """Nothing before; then the whole answer, with the time of the first chunk."""
    stream = SYNC[kind](stream=True, **openai)
    next(stream)
    assert instrumented.rows == []
    for _ in stream:
        assert not trace.get_current_span().get_span_context().is_valid, "a span must not stay current between chunks"
    assert_recorded(instrumented, kind, streamed=True)
    assert instrumented.row["time_to_first_chunk_ms"] > 0
    assert "You said" in str(instrumented.row["outputs"])


@pytest.mark.parametrize("kind", ["chat", "text", "responses"])
async def test_an_async_stream_is_recorded_when_it_ends(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any], kind: str
) -> None:
    """The same for async iteration."""
    async for _ in await ASYNC[kind](stream=True, **openai):
        assert not trace.get_current_span().get_span_context().is_valid
    assert_recorded(instrumented, kind, streamed=True)
    assert "You said" in str(instrumented.row["outputs"])


def test_the_stream_keeps_its_class(instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any]) -> None:
    """It is what LiteLLM returns: isinstance, name and attributes hold."""
    stream = litellm.completion(CHAT, MESSAGES, stream=True, **openai)
    assert isinstance(stream, litellm.CustomStreamWrapper)
    assert type(stream).__name__ == "CustomStreamWrapper"
    assert stream.model == "gpt-4o-mini"
    assert "You said" in litellm.stream_chunk_builder(list(stream)).choices[0].message.content


def test_a_stream_has_the_usage_the_provider_sends(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any]
) -> None:
    """With include_usage the counts and the price of the row are those of the same call without streaming."""
    reply = Reply(text="Hello there.", usage={"input_tokens": 12, "output_tokens": 5})
    provider.reply(reply)
    provider.reply(reply)
    litellm.completion(CHAT, MESSAGES, **openai)
    list(litellm.completion(CHAT, MESSAGES, stream=True, stream_options={"include_usage": True}, **openai))
    whole, streamed = instrumented.rows
    for column in ("input_tokens", "output_tokens", "total_tokens", "cost", "outputs", "finish_reasons"):
        assert streamed[column] == whole[column], column


def test_a_dropped_stream_is_recorded_with_what_arrived(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any]
) -> None:
    """Abandoned streams are rows too."""
    stream = litellm.completion(CHAT, MESSAGES, stream=True, **openai)
    next(stream), next(stream)
    del stream
    instrumented.wait_for(rows=1)
    assert instrumented.row["error_type"].endswith("StreamAbandoned")
    assert "You" in str(instrumented.row["outputs"])


async def test_a_closed_async_stream_is_recorded_at_once(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any]
) -> None:
    """aclose() ends the record."""
    stream = await litellm.acompletion(CHAT, MESSAGES, stream=True, **openai)
    await anext(stream)
    await stream.aclose()
    assert instrumented.row["error_type"].endswith("StreamAbandoned")


def test_a_stream_that_breaks_is_an_error_with_what_arrived(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any]
) -> None:
    """The provider's error passes, the row keeps it and the partial answer."""
    provider.disconnect(after=4, reply=Reply(text="It was a dark and stormy night."))
    stream = litellm.completion(CHAT, MESSAGES, stream=True, max_retries=0, **openai)
    with pytest.raises(litellm.exceptions.MidStreamFallbackError) as caught:
        list(stream)
    row = instrumented.row
    assert row["error_type"].endswith(type(caught.value).__qualname__)
    assert "It was" in str(row["outputs"])
    assert row.get("output_tokens") is None


def test_an_error_passes_as_the_same_object(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is wrapped or replaced, and the failed call is a row with its status."""
    failure = litellm.RateLimitError("slow down", "openai", "gpt-4o-mini")

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise failure

    with pytest.raises(litellm.RateLimitError) as caught:
        litellm.completion(CHAT, MESSAGES, mock_response=failure, **openai)
    assert caught.value.status_code == 429
    assert instrumented.row["error_status"] == 429
    assert instrumented.row["attempts"] == 1


def test_retries_of_litellm_are_attempts_of_one_call(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any]
) -> None:
    """One row, and an event on the span for the attempt that failed."""
    provider.fail(status=500)
    litellm.completion_with_retries(model=CHAT, messages=MESSAGES, num_retries=2, max_retries=0, **openai)
    assert instrumented.row["attempts"] == 2
    (span,) = instrumented.spans
    assert len([event for event in span.events if "attempt" in event.name]) == 1


def test_the_retries_inside_a_call_are_its_attempts(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`num_retries` of LiteLLM, after the client's own: the error of the first attempt is told too."""
    monkeypatch.setattr("openai._base_client.BaseClient._calculate_retry_timeout", lambda *_, **__: 0.0)
    for ask in (litellm.completion, lambda *args, **kwargs: asyncio.run(litellm.acompletion(*args, **kwargs))):
        provider.fail(status=500, times=2)
        ask(CHAT, MESSAGES, num_retries=1, **openai)
    assert [row["attempts"] for row in instrumented.rows] == [2, 2]
    assert len(instrumented.spans) == 2


CALLBACK_PROGRAM = """
import threading
import litellm
import lmtrace
from lmtrace.testing import LoopbackProvider, capture

lmtrace.instrument()
judged = threading.Event()

def judge(kwargs, *rest):
    if kwargs["model"] == "gpt-4o-mini":
        litellm.completion("openai/gpt-4o", messages, **where)
        judged.set()

messages = [{"role": "user", "content": "hello"}]
with LoopbackProvider() as provider, capture() as captured:
    where = {"api_base": provider.openai_base, "api_key": "any"}
    litellm.success_callback = [judge]
    litellm.completion("openai/gpt-4o-mini", messages, **where)
    assert judged.wait(60)
    print(*sorted(row["model"] for row in captured.rows))
"""


def test_a_call_made_by_a_callback_of_litellm_is_a_call_of_its_own(warm: Warm, tmp_path: Path) -> None:
    """LiteLLM runs callbacks in a copy of the context of the call that they follow.

    In a process of its own: LiteLLM only calls a function that is in its list before anything else was set up.
    """
    done = warm.run("-c", CALLBACK_PROGRAM, cwd=tmp_path)
    assert done.stdout.split() == ["openai/gpt-4o", "openai/gpt-4o-mini"], done.stderr


def routed(openai: dict[str, Any], first: str = CHAT, second: str = "openai/gpt-4o") -> litellm.Router:
    deployments = [("fast", first), ("strong", second)]
    models = [{"model_name": name, "litellm_params": {"model": model, **openai}} for name, model in deployments]
    return litellm.Router(model_list=models, num_retries=0, fallbacks=[{"fast": ["strong"]}], disable_cooldowns=True)


def test_a_router_that_falls_back_is_one_call(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any]
) -> None:
    """The deployment that failed is an attempt; the answer is the second's."""
    provider.fail(status=400)
    answer = routed({**openai, "max_retries": 0}).completion("fast", MESSAGES)
    assert answer.model == "gpt-4o"
    row = instrumented.row
    assert (row["model"], row["response_model"], row["attempts"]) == ("fast", "gpt-4o", 2)
    assert row["provider"] == "openai"


@pytest.mark.parametrize("method", ["acompletion", "aresponses", "atext_completion", "aembedding"])
async def test_every_async_method_of_a_router_is_one_call(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any], method: str
) -> None:
    """Also those a Router makes for itself."""
    router = routed(openai, first=EMBEDDING if method == "aembedding" else CHAT)
    given = {
        "acompletion": {"messages": MESSAGES},
        "aresponses": {"input": "Mention tea."},
        "atext_completion": {"prompt": "Mention tea."},
        "aembedding": {"input": ["Mention tea."]},
    }[method]
    await getattr(router, method)(model="fast", **given)
    assert instrumented.row["model"] == "fast"
    assert len(instrumented.spans) == 1


async def test_a_routed_stream_is_one_call(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any]
) -> None:
    """The Router's own stream class is followed too."""
    router = routed(openai)
    [chunk async for chunk in await router.acompletion("fast", MESSAGES, stream=True)]
    assert "You said" in str(instrumented.row["outputs"])
    list(router.completion("fast", MESSAGES, stream=True))
    assert len(instrumented.rows) == 2


def test_batch_completion_is_one_call_each(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any]
) -> None:
    """Three prompts, three rows."""
    litellm.batch_completion(CHAT, [MESSAGES, MESSAGES, MESSAGES], **openai)
    assert len(instrumented.rows) == 3


def test_a_function_taken_before_is_recorded_too(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any]
) -> None:
    """``from litellm import completion`` before `instrument()`, in any module."""
    completion_taken_before(CHAT, MESSAGES, **openai)
    assert len(instrumented.rows) == 1


def test_a_call_of_lmtrace_is_not_recorded_twice(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any]
) -> None:
    """TracedBackend has opened the call; LiteLLM below it is part of it."""
    TracedBackend(LiteLLMBackend()).complete(LMRequest(model=CHAT, messages=MESSAGES), openai)
    assert len(instrumented.rows) == len(instrumented.spans) == 1


def test_spans_nest_under_the_programs_own(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any]
) -> None:
    """The current span is the parent, for calls and for streams read outside of it."""
    tracer = instrumented.tracer_provider.get_tracer("program")
    with tracer.start_as_current_span("work") as work:
        litellm.completion(CHAT, MESSAGES, **openai)
        stream = litellm.completion(CHAT, MESSAGES, stream=True, **openai)
    list(stream)
    calls = [span for span in instrumented.spans if span.name != "work"]
    assert [span.parent and span.parent.span_id for span in calls] == [work.get_span_context().span_id] * 2


async def test_concurrent_calls_do_not_mix(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any]
) -> None:
    """Twenty at once: twenty rows, each with its own answer."""
    provider.respond(lambda request: Reply(text=request.prompt))
    asked = [[{"role": "user", "content": f"number {index}"}] for index in range(20)]
    await asyncio.gather(*(litellm.acompletion(CHAT, messages, **openai) for messages in asked))
    rows = instrumented.rows
    assert {row["messages"][0]["content"] for row in rows} == {f"number {index}" for index in range(20)}
    assert all(row["outputs"] == [row["messages"][0]["content"]] for row in rows)


async def test_a_cancelled_call_is_recorded(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any]
) -> None:
    """Cancellation passes, and the row says so."""
    provider.hang()
    task = asyncio.create_task(litellm.acompletion(CHAT, MESSAGES, **openai))
    await asyncio.to_thread(provider.wait_for, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert instrumented.row["error_type"].endswith("CancelledError")


def test_a_cache_hit_of_litellms_own_cache_is_marked(
    instrumented: Captured, provider: LoopbackProvider, openai: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Served by the cache, and the provider was asked once."""
    pytest.importorskip("fastapi", reason="LiteLLM's cache class needs fastapi")
    cache = litellm.Cache(type="local")
    monkeypatch.setattr(litellm, "cache", cache)
    for _ in range(2):
        litellm.completion(CHAT, MESSAGES, caching=True, **openai)
    assert len(provider.requests) == 1
    assert [row["served_by"] for row in instrumented.rows] == ["provider", "cache"]


@pytest.mark.parametrize(
    "double", [{"choices": []}, {"odd": 1}, None, object()], ids=["empty", "odd", "nothing", "object"]
)
def test_a_stand_in_for_an_answer_reaches_the_program_as_it_is(
    instrumented: Captured, monkeypatch: pytest.MonkeyPatch, double: object
) -> None:
    """An object that is no answer of LiteLLM's is no failure of ours: the call is recorded, with nothing known of its answer."""
    monkeypatch.setattr(litellm, "batch_completion_models", lambda **_: double)
    answer = litellm.completion(CHAT, MESSAGES, model_list=[{"model_name": CHAT, "litellm_params": {"model": CHAT}}])
    assert answer is double
    assert instrumented.row.get("error_type") is None
    assert instrumented.row.get("output_text") is None


def test_instrumenting_twice_and_undoing_it_leaves_litellm_as_it_was() -> None:
    """Idempotent, and reversible."""
    before = litellm.completion, litellm.acompletion, litellm.Router.acompletion, litellm.main.completion
    instrument()
    wrapped = litellm.completion
    instrument()
    assert litellm.completion is wrapped
    uninstrument()
    after = litellm.completion, litellm.acompletion, litellm.Router.acompletion, litellm.main.completion
    assert after == before


def test_our_own_failure_does_not_reach_the_program(
    captured: Captured, provider: LoopbackProvider, openai: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken recorder costs a record, never a call."""
    monkeypatch.delenv("LMTRACE_TEST_RAISE", raising=False)
    instrument()
    try:
        monkeypatch.setattr(_recorder.Recorder, "start", lambda *_: 1 / 0)
        answer = litellm.completion(CHAT, MESSAGES, **openai)
    finally:
        uninstrument()
    assert answer.choices[0].message.content
    assert captured.rows == []
