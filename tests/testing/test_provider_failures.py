"""Scripted failures reach the caller of LiteLLM as the exceptions that the real provider's failures would be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import litellm
import openai
import pytest

from lmtrace.testing import Failure, LoopbackProvider, Reply

pytestmark = pytest.mark.usefixtures("litellm_clients")

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
BASES = {
    "openai/gpt-4o-mini": "openai_base",
    "anthropic/claude-sonnet-4-5": "anthropic_base",
    "gemini/gemini-2.5-flash": "gemini_base",
    "ollama_chat/llama3.1": "ollama_base",
}
STATUSES = {
    400: litellm.BadRequestError,
    401: litellm.AuthenticationError,
    404: litellm.NotFoundError,
    429: litellm.RateLimitError,
    500: litellm.InternalServerError,
    503: litellm.ServiceUnavailableError,
}
every_model = pytest.mark.parametrize("model", BASES)
every_cloud_model = pytest.mark.parametrize("model", [name for name in BASES if not name.startswith("ollama")])


def complete(provider: LoopbackProvider, model: str, **more: Any) -> Any:
    """One completion without retries; a stream is consumed."""
    base = getattr(provider, BASES[model])
    response = litellm.completion(model, MESSAGES, api_base=base, api_key="sk-any", max_retries=0, **more)
    return list(response) if more.get("stream") else response


@every_model
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("stream", [False, True])
def test_status(provider: LoopbackProvider, model: str, status: int, stream: bool) -> None:
    """An error status becomes LiteLLM's exception for it, in each dialect, whether a stream was asked for or not."""
    provider.fail(status=status)
    with pytest.raises(openai.APIError) as caught:
        complete(provider, model, stream=stream)
    error = caught.value
    if isinstance(
        error, litellm.exceptions.MidStreamFallbackError
    ):  # LiteLLM's wrapping of what a stream of Gemini raises
        error = error.original_exception
    assert isinstance(error, STATUSES[status])


@every_cloud_model
def test_context_window(provider: LoopbackProvider, model: str) -> None:
    """Each provider's own words for a prompt that is too long are recognised."""
    provider.fail(status=400, code="context_length_exceeded")
    with pytest.raises(litellm.ContextWindowExceededError):
        complete(provider, model)


@every_cloud_model
def test_content_policy(provider: LoopbackProvider, model: str) -> None:
    """Each provider's own words for a filtered prompt are recognised."""
    provider.fail(status=400, code="content_policy_violation")
    with pytest.raises(litellm.ContentPolicyViolationError):
        complete(provider, model)


@every_model
def test_message(provider: LoopbackProvider, model: str) -> None:
    """A scripted message is part of the exception's."""
    provider.fail(status=500, message="the moon is in the way")
    with pytest.raises(litellm.InternalServerError, match="the moon is in the way"):
        complete(provider, model)


BREAKS: dict[str, Callable[..., Any]] = {
    "disconnect": LoopbackProvider.disconnect,
    "garble": LoopbackProvider.garble,
}


@every_model
@pytest.mark.parametrize("way", BREAKS)
def test_broken_answer(provider: LoopbackProvider, model: str, way: str) -> None:
    """An answer that does not come, or is half a JSON text, is an error of LiteLLM's and not a wrong answer."""
    BREAKS[way](provider)
    with pytest.raises(openai.APIError):
        complete(provider, model)


@every_model
def test_broken_stream(provider: LoopbackProvider, model: str) -> None:
    """A stream that breaks off has delivered what came before."""
    provider.disconnect(after=5, reply=Reply(text="Paris is the capital of France, they say."))
    base = getattr(provider, BASES[model])
    stream = litellm.completion(model, MESSAGES, api_base=base, api_key="sk-any", max_retries=0, stream=True)
    received: list[str] = []
    with pytest.raises(litellm.exceptions.MidStreamFallbackError, match="peer closed connection"):
        received.extend(chunk.choices[0].delta.content or "" for chunk in stream)  # keeps what came before the error
    assert "".join(received)
    assert "Paris is the capital of France, they say.".startswith("".join(received))


@every_cloud_model
def test_error_inside_stream(provider: LoopbackProvider, model: str) -> None:
    """A provider that fails when the stream has begun says so in an event, which LiteLLM raises."""
    provider.fail(status=500, after=2)
    with pytest.raises(litellm.exceptions.MidStreamFallbackError):
        complete(provider, model, stream=True)


def test_retries(provider: LoopbackProvider) -> None:
    """Two failures and an answer are three requests; the wait the provider asks for is honoured by OpenAI's client."""
    provider.fail(status=429, retry_after=0.001, times=2)
    base = provider.openai_base
    response = litellm.completion("openai/gpt-4o-mini", MESSAGES, api_base=base, api_key="sk-any", max_retries=2)
    assert response.choices[0].message.content == "Paris."
    assert len(provider.requests) == 3


def test_failures_and_replies_keep_their_order(provider: LoopbackProvider) -> None:
    """Whatever was scripted first happens first."""
    provider.reply("one")
    provider.fail(status=503)
    provider.reply("two")
    url = f"{provider.openai_base}/chat/completions"
    found = [httpx.post(url, json={"model": "m", "messages": MESSAGES}) for _ in range(3)]
    assert [response.status_code for response in found] == [200, 503, 200]
    assert found[2].json()["choices"][0]["message"]["content"] == "two"


def test_computed_failure(provider: LoopbackProvider) -> None:
    """A `respond` callable may fail on purpose."""
    provider.respond(lambda _: Failure(status=418, message="teapot"))
    url = f"{provider.openai_base}/chat/completions"
    response = httpx.post(url, json={"model": "m", "messages": MESSAGES})
    assert (response.status_code, response.json()["error"]["message"]) == (418, "teapot")


def test_broken_responder(provider: LoopbackProvider) -> None:
    """A `respond` callable that raises is told to the client, where the test will see it."""

    def respond(request: Any) -> str:
        raise KeyError("oops")

    provider.respond(respond)
    with pytest.raises(litellm.InternalServerError, match=r"respond\(\) raised KeyError: 'oops'"):
        complete(provider, "openai/gpt-4o-mini")
