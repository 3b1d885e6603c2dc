"""An LM with a real provider library and real HTTP: the whole way to a server on the loopback interface and back."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from typing import Any

import litellm
import pytest
from litellm.caching.llm_caching_handler import LLMClientCache

import lmtrace
from lmtrace import _errors as errors
from lmtrace.testing import LoopbackProvider

KEY = "sk-canary-0123456789abcdef"


@pytest.fixture(autouse=True)
def closed_connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """LiteLLM keeps its clients for an hour. Here each test has its own, closed with it; asyncio's by `Async.run`."""
    clients = LLMClientCache()
    monkeypatch.setattr(litellm, "in_memory_llm_clients_cache", clients, raising=False)
    monkeypatch.setattr(litellm, "disable_aiohttp_transport", True)
    monkeypatch.setattr(litellm, "suppress_debug_info", True)
    yield
    for client in clients.cache_dict.values():
        close = getattr(client, "close", None)
        if close is not None and not inspect.iscoroutinefunction(close):
            close()


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider() as running:
        yield running


@pytest.fixture
def lm(provider: LoopbackProvider, monkeypatch: pytest.MonkeyPatch) -> lmtrace.LM:
    monkeypatch.setattr("lmtrace._retry.FIRST_DELAY_S", 0.0)
    return lmtrace.LM("openai/gpt-4o-mini", api_base=provider.openai_base, api_key=KEY)


def test_chat(way: Any, lm: lmtrace.LM, provider: LoopbackProvider) -> None:
    """A call gets its answer, tokens and cost; the rollout id stays at home and the key goes to the provider alone."""
    provider.reply("This is a test!", usage={"input_tokens": 100, "output_tokens": 10})
    assert way.call(lm, "Say this is a test!", temperature=0.7, rollout_id=1) == ["This is a test!"]
    (received,) = provider.requests
    assert received.json == {
        "model": "gpt-4o-mini", "temperature": 0.7, "messages": [{"role": "user", "content": "Say this is a test!"}],
    }  # fmt: skip
    assert received.headers["authorization"] == f"Bearer {KEY}"
    entry = lm.history[-1]
    assert entry["usage"]["total_tokens"] == 110
    assert entry["cost"] == pytest.approx(100 * 0.15e-6 + 10 * 0.6e-6)
    assert entry["kwargs"]["rollout_id"] == 1
    assert KEY not in repr(entry["kwargs"]) + repr(entry.request) + repr(entry.response)


def test_text(way: Any, lm: lmtrace.LM, provider: LoopbackProvider) -> None:
    """`model_type="text"` uses the completions interface."""
    provider.reply("fine")
    assert way.call(lm.copy(model_type="text"), "hi") == ["fine"]
    assert provider.requests[0].dialect == "openai.text"


def test_responses(way: Any, lm: lmtrace.LM, provider: LoopbackProvider) -> None:
    """`model_type="responses"` uses the Responses interface, with the developer role when asked for."""
    provider.reply("fine", reasoning="hm")
    responses = lm.copy(model_type="responses", use_developer_role=True)
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]
    assert way.call(responses, messages=messages) == [{"text": "fine", "reasoning_content": "hm"}]
    (received,) = provider.requests
    assert received.dialect == "openai.responses"
    assert [role for role, _ in received.messages] == ["developer", "user"]


def test_reasoning_model(way: Any, lm: lmtrace.LM, provider: LoopbackProvider) -> None:
    """A reasoning model is sent `max_completion_tokens`."""
    thinker = lmtrace.LM("openai/gpt-5-mini", temperature=1.0, max_tokens=16_000, **_connection(lm))
    way.call(thinker, "hi")
    assert provider.requests[0].json["max_completion_tokens"] == 16_000
    assert "max_tokens" not in provider.requests[0].json


def _connection(lm: lmtrace.LM) -> dict[str, Any]:
    return {name: lm.kwargs[name] for name in ("api_base", "api_key")}


def test_several_candidates(way: Any, lm: lmtrace.LM, provider: LoopbackProvider) -> None:
    """`n` candidates come back in order."""
    provider.reply("one", alternatives=["two", "three"])
    assert way.call(lm, "hi", n=3) == ["one", "two", "three"]


def test_tool_calls(way: Any, lm: lmtrace.LM, provider: LoopbackProvider) -> None:
    """Tool calls come back in DSPy's form."""
    provider.reply(tool_calls=[{"name": "weather", "arguments": {"city": "Oslo"}}])
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
    (output,) = way.call(lm, "hi", tools=tools)
    assert output["tool_calls"][0]["function"]["name"] == "weather"


def test_truncation(way: Any, lm: lmtrace.LM, provider: LoopbackProvider, caplog: pytest.LogCaptureFixture) -> None:
    """An answer the provider cut off is reported."""
    provider.reply("and then", finish_reason="length")
    way.call(lm, "hi", max_tokens=2)
    assert "max_tokens=2" in "".join(record.getMessage() for record in caplog.records if record.name == "lmtrace")


@pytest.mark.parametrize("model_type", ["chat", "text", "responses"])
def test_streams(way: Any, lm: lmtrace.LM, provider: LoopbackProvider, model_type: str) -> None:
    """Every interface streams, and the assembled answer is the one that would have come whole."""
    provider.reply("A somewhat longer answer.")
    pieces, stream = way.stream(lm.copy(model_type=model_type), "hi")
    assert len(pieces) > 1
    assert "".join(pieces) == stream.outputs[0] == "A somewhat longer answer."
    assert stream.entry.time_to_first_chunk_ms is not None
    assert stream.response.usage.total_tokens


FAILURES = [
    ({"status": 400}, errors.LMInvalidRequestError, 1),
    ({"status": 400, "code": "context_length_exceeded"}, errors.ContextWindowExceededError, 1),
    ({"status": 401}, errors.LMAuthError, 1),
    ({"status": 403}, errors.LMAuthError, 1),
    ({"status": 404}, errors.LMUnsupportedModelError, 1),
    ({"status": 408}, errors.LMTimeoutError, 3),
    ({"status": 409}, errors.LMInvalidRequestError, 3),
    ({"status": 422}, errors.LMInvalidRequestError, 1),
    ({"status": 429}, errors.LMRateLimitError, 3),
    ({"status": 429, "code": "insufficient_quota"}, errors.LMBillingError, 1),
    ({"status": 500}, errors.LMServerError, 3),
    ({"status": 503}, errors.LMServerError, 3),
]


@pytest.mark.parametrize(("failure", "expected", "tries"), FAILURES, ids=str)
def test_failures(  # noqa: PLR0917
    way: Any, lm: lmtrace.LM, provider: LoopbackProvider, failure: dict[str, Any], expected: type[Exception], tries: int
) -> None:
    """Each status becomes its class, tried again only where that may help, and never by LiteLLM or the client as well."""
    provider.fail(times=5, headers={"x-request-id": "req_7"}, **failure)
    with pytest.raises(expected) as caught:
        way.call(lm.copy(num_retries=2), "hi")
    error = caught.value
    assert isinstance(error, errors.LMError)
    assert type(error) is expected
    assert (len(provider.requests), error.attempts) == (tries, tries)
    assert (error.status, error.request_id, error.provider) == (failure["status"], "req_7", "openai")
    assert KEY not in str(error)


MODELS = {"openai/gpt-4o-mini": "openai", "anthropic/claude-haiku-4-5": "anthropic", "gemini/gemini-2.5-flash": "gemini",
          "ollama_chat/llama3": "ollama"}  # fmt: skip
SAME = [
    ("fail", {"status": 401}, errors.LMAuthError),
    ("fail", {"status": 404}, errors.LMUnsupportedModelError),
    ("fail", {"status": 429}, errors.LMRateLimitError),
    ("fail", {"status": 503}, errors.LMServerError),
    ("fail", {"status": 400, "code": "context_length_exceeded"}, errors.ContextWindowExceededError),
    ("disconnect", {}, errors.LMTransportError),
    ("garble", {}, errors.LMServerError),
]


@pytest.mark.parametrize(("failure", "fields", "expected"), SAME, ids=str)
@pytest.mark.parametrize("model", MODELS)
def test_providers_fail_alike(  # noqa: PLR0917
    provider: LoopbackProvider,
    model: str,
    failure: str,
    fields: dict[str, Any],
    expected: type[Exception],
    lm: lmtrace.LM,
) -> None:
    """The same failure is the same error whoever the provider is, in its own words."""
    getattr(provider, failure)(**fields)
    base = getattr(provider, f"{MODELS[model]}_base")
    with pytest.raises(errors.LMError) as caught:
        lm.copy(model=model, api_base=base, num_retries=0)("hi")
    assert type(caught.value) is expected
    assert "litellm" not in str(caught.value)
    assert "Exception" not in str(caught.value)
    assert not caught.value.message.startswith("{")


def test_streams_fail_as_answers_do(provider: LoopbackProvider, lm: lmtrace.LM) -> None:
    """A stream that is refused because of the rate says so, also where LiteLLM calls it a broken stream."""
    provider.fail(status=429)
    gemini = lm.copy(model="gemini/gemini-2.5-flash", api_base=provider.gemini_base, num_retries=0)
    with pytest.raises(errors.LMRateLimitError, match="exhausted"):
        list(gemini.stream("hi"))


def test_recovery(way: Any, lm: lmtrace.LM, provider: LoopbackProvider) -> None:
    """A call that succeeds in the end is one entry that counts the tries."""
    provider.fail(status=503)
    provider.disconnect()
    provider.reply("at last")
    assert way.call(lm, "hi") == ["at last"]
    assert [entry.attempts for entry in lm.history] == [3]


def test_retry_after_is_told(way: Any, lm: lmtrace.LM, provider: LoopbackProvider) -> None:
    """What the provider says about waiting is on the error."""
    provider.fail(status=429, retry_after=7200)
    with pytest.raises(errors.LMRateLimitError) as caught:
        way.call(lm, "hi")
    assert (caught.value.retry_after, len(provider.requests)) == (7200.0, 1)


def test_nobody_there(way: Any, lm: lmtrace.LM) -> None:
    """A refused connection is a transport error without a status."""
    with pytest.raises(errors.LMTransportError) as caught:
        way.call(lm.copy(api_base="http://127.0.0.1:9/v1", num_retries=1), "hi")
    assert (caught.value.status, caught.value.attempts) == (None, 2)


def test_no_answer_in_time(way: Any, lm: lmtrace.LM, provider: LoopbackProvider) -> None:
    """A provider that does not answer in time is a timeout."""
    provider.hang()
    with pytest.raises(errors.LMTimeoutError):
        way.call(lm.copy(num_retries=0), "hi", timeout=0.1)


def test_no_key(way: Any, provider: LoopbackProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key is named as such, at once."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(errors.LMNotConfiguredError, match="api_key=") as caught:
        way.call(lmtrace.LM("openai/gpt-4o-mini", api_base=provider.openai_base), "hi")
    assert caught.value.attempts == 1


def test_no_provider(way: Any) -> None:
    """A model that LiteLLM cannot place is refused with the form of a name."""
    with pytest.raises(errors.LMUnsupportedModelError, match="provider/model"):
        way.call(lmtrace.LM("nobody-knows-me"), "hi")


@pytest.mark.parametrize("messages", [[42], "text", [{"role": "user", "content": 42}]], ids=repr)
def test_wrong_messages(way: Any, lm: lmtrace.LM, messages: Any) -> None:
    """Messages of wrong types give LiteLLM's own error as the cause, without another try."""

    def bare() -> None:
        litellm.completion("openai/gpt-4o-mini", messages=messages, max_retries=0, **_connection(lm))

    async def abare() -> None:
        await litellm.acompletion("openai/gpt-4o-mini", messages=messages, max_retries=0, **_connection(lm))

    with pytest.raises(Exception) as theirs:  # noqa: PT011 - whatever LiteLLM raises
        way.run(abare()) if hasattr(way, "run") else bare()
    with pytest.raises(errors.LMError) as ours:
        way.call(lm, messages=messages)
    assert type(ours.value.__cause__) is type(theirs.value)
    assert ours.value.attempts == 1


def test_errors_of_the_user_do_not_count(way: Any, lm: lmtrace.LM, provider: LoopbackProvider) -> None:
    """A call made while another error is handled is judged by its own error: here one worth another try."""
    provider.fail(status=500, times=2)
    provider.reply("fine")
    try:
        {}["missing"]
    except KeyError:
        assert way.call(lm, "hi") == ["fine"]
        provider.disconnect(times=5)
        with pytest.raises(errors.LMTransportError):
            way.call(lm, "hi", cache=False)


def test_stream_breaks(way: Any, lm: lmtrace.LM, provider: LoopbackProvider) -> None:
    """A connection that breaks in the middle of a stream is a transport error; nothing is asked again."""
    provider.disconnect(after=2)
    with pytest.raises(errors.LMTransportError):
        way.stream(lm, "tell me a long story")
    assert len(provider.requests) == 1


def test_stream_begins_late(way: Any, lm: lmtrace.LM, provider: LoopbackProvider) -> None:
    """A stream that is refused is asked for again."""
    provider.fail(status=429, times=2)
    provider.reply("at last")
    pieces, stream = way.stream(lm, "hi")
    assert ("".join(pieces), stream.entry.attempts) == ("at last", 3)


def test_many_at_once(lm: lmtrace.LM) -> None:
    """Threads and tasks share one LM, and everybody gets the answer to what was asked."""
    answers: dict[str, str] = {}

    def ask(number: int) -> None:
        answers[f"t{number}"] = str(lm(f"t{number}")[0])

    async def ask_all() -> list[Any]:
        try:
            return await asyncio.gather(*(lm.acall(f"a{number}") for number in range(8)))
        finally:
            await litellm.close_litellm_async_clients()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    tasks = asyncio.run(ask_all())
    for thread in threads:
        thread.join()
    assert all(question in answer for question, answer in answers.items())
    assert all(f"a{number}" in output[0] for number, output in enumerate(tasks))
    assert len(lm.history) == 16
