"""The multi-provider contract: whoever serves the model, the same answer gives the same normalised response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import litellm
import pytest

from lmtrace._data import LMRequest, LMResponse, LMUsage
from lmtrace.integrations.litellm import LiteLLMBackend
from lmtrace.testing import LoopbackProvider, Reply

QUESTION = [{"role": "user", "content": "What is the weather in Oslo?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather somewhere.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@dataclass(frozen=True)
class Dialect:
    """A provider as LiteLLM is told about it."""

    model: str
    base: str
    has_price: bool = True

    def kwargs(self, provider: LoopbackProvider) -> dict[str, Any]:
        return {"api_base": getattr(provider, self.base), "api_key": "sk-0000000000"}


DIALECTS = {
    "openai": Dialect("openai/gpt-4o-mini", "openai_base"),
    "anthropic": Dialect("anthropic/claude-sonnet-4-5", "anthropic_base"),
    "gemini": Dialect("gemini/gemini-2.5-flash", "gemini_base"),
    "ollama": Dialect("ollama_chat/llama3.1", "ollama_base", has_price=False),
}


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Dialect:
    monkeypatch.setenv("OLLAMA_API_BASE", "")
    return DIALECTS[request.param]


def ask(dialect: Dialect, provider: LoopbackProvider, reply: Reply, **kwargs: Any) -> LMResponse:
    provider.reply(reply)
    request = LMRequest(model=dialect.model, messages=QUESTION, kwargs=kwargs)
    return LiteLLMBackend().complete(request, dialect.kwargs(provider))


def streamed(dialect: Dialect, provider: LoopbackProvider, reply: Reply, **kwargs: Any) -> LMResponse:
    provider.reply(reply)
    request = LMRequest(model=dialect.model, messages=QUESTION, kwargs=kwargs, stream=True)
    stream = LiteLLMBackend().stream(request, dialect.kwargs(provider))
    chunks = list(stream)
    assert "".join(chunk.text for chunk in chunks) == (stream.response.outputs[0].text or "")
    return stream.response


def counts(usage: LMUsage | None) -> tuple[Any, ...]:
    assert usage is not None
    return usage.input_tokens, usage.output_tokens, usage.total_tokens


def assert_priced(response: LMResponse, dialect: Dialect) -> None:
    if dialect.has_price:
        assert response.cost is not None
        assert response.cost > 0
        assert response.metadata == {"cost_source": "litellm"}
    else:
        assert not response.cost


HELLO = Reply(text="It rains in Oslo.", usage={"input_tokens": 11, "output_tokens": 7})


@pytest.mark.parametrize("way", [ask, streamed])
def test_a_text_answer_is_the_same_from_every_provider(dialect: Dialect, provider: LoopbackProvider, way: Any) -> None:
    """Text, finish reason, token counts and a price where there is one; streamed or not."""
    response = way(dialect, provider, HELLO)
    (output,) = response.outputs
    assert output.text == "It rains in Oslo."
    assert (output.finish_reason, output.truncated) == ("stop", False)
    assert counts(response.usage) == (11, 7, 18)
    assert_priced(response, dialect)
    assert not response.cache_hit


@pytest.mark.parametrize("way", [ask, streamed])
def test_a_tool_call_is_the_same_from_every_provider(dialect: Dialect, provider: LoopbackProvider, way: Any) -> None:
    """Name and arguments; a stream gives the call whole."""
    reply = Reply(tool_calls=[{"name": "weather", "arguments": {"city": "Oslo"}}])
    response = way(dialect, provider, reply, tools=[TOOL])
    (call,) = response.outputs[0].of_type("tool_call")
    assert call.name == "weather"  # type: ignore[union-attr]
    assert litellm.utils.json.loads(call.arguments) == {"city": "Oslo"}  # type: ignore[union-attr]
    assert call.id  # type: ignore[union-attr]
    assert response.outputs[0].finish_reason == "tool_calls"
    assert response.outputs[0].text in (None, "")


@pytest.mark.parametrize("way", [ask, streamed])
def test_a_cut_answer_is_marked_by_every_provider(dialect: Dialect, provider: LoopbackProvider, way: Any) -> None:
    """The token limit is finish reason ``length`` and `truncated`."""
    response = way(dialect, provider, Reply(text="It rai", finish_reason="length"))
    assert (response.outputs[0].finish_reason, response.outputs[0].truncated) == ("length", True)


def test_a_provider_that_reports_no_usage_leaves_it_unknown(provider: LoopbackProvider) -> None:
    """Unknown is None, never zero, and there is no price."""
    dialect = DIALECTS["openai"]
    for way in (ask, streamed):
        response = way(dialect, provider, Reply(text="Hm.", reports_usage=False))
        assert response.usage is None or counts(response.usage) == (None, None, None)
        assert not response.cost


def test_cached_and_reasoning_tokens_are_normalised(provider: LoopbackProvider) -> None:
    """OpenAI's and Anthropic's names for the same counts mean the same here."""
    reply = Reply(text="x", usage=LMUsage(input_tokens=100, output_tokens=20, cache_read_tokens=40, reasoning_tokens=5))
    for name in ("openai", "anthropic"):
        response = ask(DIALECTS[name], provider, reply)
        assert response.usage is not None
        assert (response.usage.input_tokens, response.usage.cache_read_tokens) == (100, 40), name


@pytest.mark.parametrize("way", [ask, streamed])
def test_reasoning_is_a_part_of_its_own(provider: LoopbackProvider, way: Any) -> None:
    """Anthropic's thinking, Gemini's thoughts and Ollama's thinking, before the text."""
    for name in ("anthropic", "gemini", "ollama"):
        response = way(DIALECTS[name], provider, Reply(text="Rain.", reasoning="Clouds are grey."))
        kinds = [part.type for part in response.outputs[0].parts]
        assert response.outputs[0].reasoning == "Clouds are grey.", name
        assert kinds[0] == "reasoning", name
        assert response.outputs[0].text == "Rain."


def test_errors_of_the_provider_pass_unchanged(dialect: Dialect, provider: LoopbackProvider) -> None:
    """LiteLLM's exception, and one request: the backend does not retry."""
    provider.fail(status=429)
    with pytest.raises(litellm.RateLimitError):
        LiteLLMBackend().complete(LMRequest(model=dialect.model, messages=QUESTION), dialect.kwargs(provider))
    assert len(provider.requests) == 1


def messages_of(body: Mapping[str, Any]) -> str:
    return str(body.get("messages") or body.get("contents"))


def test_nothing_of_ours_reaches_the_provider(dialect: Dialect, provider: LoopbackProvider) -> None:
    """Rollout ids and cache flags stay here."""
    ask(dialect, provider, HELLO, rollout_id=3, cache=True)
    body = provider.requests[0].json
    assert "rollout_id" not in str(body)
    assert "Oslo" in messages_of(body)
