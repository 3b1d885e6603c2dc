"""`LiteLLMBackend`: what reaches the provider for each model type, sync, async and streamed."""

from __future__ import annotations

import gc
import types
from typing import Any

import litellm
import pytest
from pydantic import BaseModel

from lmtrace._data import LMRequest, LMResponse
from lmtrace.integrations.litellm import LiteLLMBackend, to_litellm
from lmtrace.integrations.litellm._arguments import arguments
from lmtrace.testing import LoopbackProvider, Reply

CHAT = "openai/gpt-4o-mini"
MODELS = {
    "chat": CHAT,
    "text": "openai/gpt-3.5-turbo-instruct",
    "responses": CHAT,
    "embedding": "openai/text-embedding-3-small",
}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:,x", "detail": "low"}}]},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
    {"role": "assistant", "content": "A cat."},
]  # fmt: skip


class Animal(BaseModel):
    name: str


def request_for(model_type: Any, **kwargs: Any) -> LMRequest:
    asked = ["tea"] if model_type == "embedding" else [{"role": "user", "content": "Mention tea."}]
    return LMRequest(model=MODELS[model_type], model_type=model_type, messages=asked, kwargs=kwargs)


@pytest.mark.parametrize("model_type", ["chat", "text", "responses", "embedding"])
async def test_sync_and_async_give_the_same(
    provider: LoopbackProvider, openai: dict[str, Any], model_type: Any
) -> None:
    """Both ways: the same request on the wire, the same response, of the class the caller of LiteLLM would get."""
    request = request_for(model_type)
    backend = LiteLLMBackend()
    sync, asynchronous = backend.complete(request, openai), await backend.acomplete(request, openai)
    first, second = provider.requests
    assert first.json == second.json
    assert sync.outputs[0].text == asynchronous.outputs[0].text
    assert sync.cost == asynchronous.cost
    assert sync.cost is not None
    assert type(to_litellm(sync, model_type)).__module__.startswith("litellm")


@pytest.mark.parametrize("model_type", ["chat", "text", "responses"])
async def test_streams_give_what_the_call_gives(
    provider: LoopbackProvider, openai: dict[str, Any], model_type: Any
) -> None:
    """Text, finish reason, usage and cost, sync and async; token counts are asked for."""
    backend, request = LiteLLMBackend(), request_for(model_type)
    whole = backend.complete(request, openai)
    stream = backend.stream(request, openai)
    pieces = [chunk.text for chunk in stream]
    astream = await backend.astream(request, openai)
    apieces = [chunk.text async for chunk in astream]
    assert "".join(pieces) == "".join(apieces) == whole.outputs[0].text
    assert len(pieces) > 2
    for response in (stream.response, astream.response):
        assert summary(response) == summary(whole)


def summary(response: LMResponse) -> tuple[Any, ...]:
    usage = response.usage
    counts = usage and (usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.cache_read_tokens)
    return response.outputs[0].parts, response.outputs[0].finish_reason, counts, response.cost, response.model


def test_an_unread_stream_has_no_response(provider: LoopbackProvider, openai: dict[str, Any]) -> None:
    """And says so; closing it early keeps what arrived."""
    stream = LiteLLMBackend().stream(request_for("chat"), openai)
    with pytest.raises(RuntimeError, match="nothing of the stream has arrived"):
        _ = stream.response
    next(iter(stream))
    stream.close()
    assert stream.response.outputs[0].finish_reason is None
    del stream
    gc.collect()


def test_litellm_does_not_retry(provider: LoopbackProvider, openai: dict[str, Any]) -> None:
    """One request, also when the program told LiteLLM to retry nothing or everything."""
    provider.fail(status=500)
    with pytest.raises(litellm.InternalServerError):
        LiteLLMBackend().complete(request_for("chat"), openai)
    assert len(provider.requests) == 1


def test_litellms_cache_is_not_used_unless_asked(
    monkeypatch: pytest.MonkeyPatch, provider: LoopbackProvider, openai: dict[str, Any]
) -> None:
    """The program's cache object is not touched by our calls."""
    monkeypatch.setattr(litellm, "cache", types.SimpleNamespace(cache=None, supported_call_types=["completion"]))
    backend = LiteLLMBackend()
    backend.complete(request_for("chat"), openai)
    backend.complete(request_for("chat"), openai)
    assert len(provider.requests) == 2


def test_a_text_prompt_is_built_as_dspy_does(provider: LoopbackProvider, openai: dict[str, Any]) -> None:
    """Contents joined by blank lines, then the line that starts the answer."""
    request = LMRequest(
        model=CHAT,
        model_type="text",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    )
    LiteLLMBackend().complete(request, openai)
    (received,) = provider.requests
    assert received.path.endswith("/completions")
    assert "chat" not in received.path
    assert received.json is not None
    assert received.json["prompt"] == "Be brief.\n\nHi\n\nBEGIN RESPONSE:"
    assert received.json["model"] == "gpt-4o-mini"


def test_a_text_model_finds_its_server_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `dspy.LM`, for any provider name; what the caller gives wins."""
    monkeypatch.setenv("acme_API_BASE", "http://acme.example/v1")
    monkeypatch.setenv("ACME_API_KEY", "from-environment")
    request = LMRequest(model="acme/poet", model_type="text", prompt="Hi")
    given = arguments(request, {})
    assert (given["api_base"], given["api_key"], given["model"]) == (
        "http://acme.example/v1",
        "from-environment",
        "text-completion-openai/poet",
    )
    assert arguments(request, {"api_key": "mine"})["api_key"] == "mine"


def test_messages_become_input_items() -> None:
    """Roles, images, tool calls and their results, as the Responses interface wants them."""
    given = arguments(LMRequest(model=CHAT, model_type="responses", messages=MESSAGES), {})
    assert given["input"] == [
        {"role": "system", "content": [{"type": "input_text", "text": "Be brief."}]},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What is this?"},
                {"type": "input_image", "image_url": "data:,x", "detail": "low"},
            ],
        },
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "a cat"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "A cat."}]},
    ]


def test_chat_parameters_get_their_responses_names() -> None:
    """Token limit, reasoning effort, response format and tools; nothing of ours is left."""
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    kwargs = {
        "max_tokens": 5,
        "reasoning_effort": "low",
        "response_format": {"type": "json_schema", "json_schema": {"name": "animal", "schema": {"type": "object"}}},
        "tools": [tool],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "rollout_id": 1,
        "cache": True,
    }
    given = arguments(LMRequest(model=CHAT, model_type="responses", prompt="Hi", kwargs=kwargs), {"api_key": "k"})
    del given["input"]
    assert given == {
        "model": CHAT,
        "api_key": "k",
        "num_retries": 0,
        "max_retries": 0,
        "max_output_tokens": 5,
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "name": "animal", "schema": {"type": "object"}}},
        "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}}],
        "tool_choice": {"type": "function", "name": "look"},
    }


def test_a_class_as_response_format_reaches_the_responses_interface(
    provider: LoopbackProvider, openai: dict[str, Any]
) -> None:
    """Its JSON schema, under its name."""
    provider.reply('{"name": "cat"}')
    LiteLLMBackend().complete(request_for("responses", response_format=Animal), openai)
    (received,) = provider.requests
    assert received.json is not None
    shape = received.json["text"]["format"]
    assert (shape["type"], shape["name"]) == ("json_schema", "Animal")
    assert "name" in shape["schema"]["properties"]


def test_several_choices_keep_their_order(provider: LoopbackProvider, openai: dict[str, Any]) -> None:
    """`n` candidates, streamed or not."""
    reply = Reply(text="one", alternatives=["two", "three"])
    provider.reply(reply)
    provider.reply(reply)
    backend, request = LiteLLMBackend(), request_for("chat", n=3)
    stream = backend.stream(request, openai)
    list(stream)
    for response in (stream.response, backend.complete(request, openai)):
        assert [output.text for output in response.outputs] == ["one", "two", "three"]
