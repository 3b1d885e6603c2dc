"""One scripted reply, rendered by every dialect, comes out of LiteLLM's own parsers as what was scripted."""

from __future__ import annotations

import json
from typing import Any

import litellm
import pytest

from lmtrace.testing import LoopbackProvider, Reply

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
MODELS = {
    "openai/gpt-4o-mini": "openai_base",
    "anthropic/claude-sonnet-4-5": "anthropic_base",
    "gemini/gemini-2.5-flash": "gemini_base",
    "ollama_chat/llama3.1": "ollama_base",
}
REPLY = Reply(
    text="It is Paris.",
    reasoning="The user asks for a capital.",
    tool_calls=[{"name": "get_weather", "arguments": {"city": "Paris"}}],
    usage={"input_tokens": 100, "output_tokens": 50, "reasoning_tokens": 20, "cache_read_tokens": 30},
)
pytestmark = pytest.mark.usefixtures("litellm_clients")

WAYS = ("sync", "async", "stream", "async stream")
every_model = pytest.mark.parametrize("model", MODELS)
every_cloud_model = pytest.mark.parametrize("model", [name for name in MODELS if not name.startswith("ollama")])
"""Ollama counts neither cached nor reasoning tokens, and knows no citations and no refusals."""
every_way = pytest.mark.parametrize("way", WAYS)


def arguments(provider: LoopbackProvider, model: str, **more: Any) -> dict[str, Any]:
    """What LiteLLM needs to reach the provider in the model's dialect."""
    base = getattr(provider, MODELS[model])
    return {"model": model, "messages": MESSAGES, "api_base": base, "api_key": "sk-canary", "max_retries": 0, **more}


async def ask(way: str, **kwargs: Any) -> Any:
    """One completion, in one of the four ways a program can ask for it; streams are put together by LiteLLM."""
    if way == "sync":
        return litellm.completion(**kwargs)
    if way == "async":
        return await litellm.acompletion(**kwargs)
    kwargs |= {"stream": True, "stream_options": {"include_usage": True}}
    if way == "stream":
        chunks = list(litellm.completion(**kwargs))
    else:
        chunks = [chunk async for chunk in await litellm.acompletion(**kwargs)]
    assert len(chunks) > 2
    return litellm.stream_chunk_builder(chunks, messages=MESSAGES)


@every_model
@every_way
async def test_scripted_reply(provider: LoopbackProvider, model: str, way: str) -> None:
    """Text, reasoning, tool calls, finish reason and counts arrive as scripted, whole or streamed."""
    provider.reply(REPLY)
    response = await ask(way, **arguments(provider, model, tools=TOOLS, _skip_mcp_handler=True))
    message = response.choices[0].message
    assert message.content == "It is Paris."
    assert message.reasoning_content == "The user asks for a capital."
    (call,) = message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
    assert response.choices[0].finish_reason == "tool_calls"
    usage = response.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (100, 50, 150)


@every_cloud_model
@every_way
async def test_details_of_counts(provider: LoopbackProvider, model: str, way: str) -> None:
    """Where a dialect has a place for cached and reasoning tokens, LiteLLM reads the scripted numbers from it."""
    provider.reply(REPLY)
    usage = (await ask(way, **arguments(provider, model))).usage
    assert usage.prompt_tokens_details.cached_tokens == 30
    assert usage.completion_tokens_details.reasoning_tokens == 20


@every_model
@every_way
async def test_unscripted_answer(provider: LoopbackProvider, model: str, way: str) -> None:
    """With nothing scripted a plausible answer comes, with counts made from the lengths of the texts."""
    response = await ask(way, **arguments(provider, model))
    assert response.choices[0].message.content == "Paris."
    assert response.choices[0].finish_reason == "stop"
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (3 + 8, 2)


@every_model
@pytest.mark.parametrize("way", ["sync", "stream"])
async def test_truncated_answer(provider: LoopbackProvider, model: str, way: str) -> None:
    """A request's token limit cuts the unscripted answer, and the finish reason says so."""
    response = await ask(way, **arguments(provider, model, max_tokens=1))
    assert response.choices[0].message.content == "Pari"
    assert response.choices[0].finish_reason == "length"


@every_model
def test_request_is_read(provider: LoopbackProvider, model: str) -> None:
    """What was asked is there in neutral terms, with headers and body as they came."""
    litellm.completion(**arguments(provider, model, max_tokens=50))
    (request,) = provider.requests
    assert request.prompt == "What is the capital of France?"
    assert request.messages[0] == ("system", "Be brief.")
    assert request.model == model.partition("/")[2]
    assert request.ask.max_tokens == 50
    assert not request.stream
    assert any("sk-canary" in value for value in request.headers.values())
    assert json.loads(request.body) == request.json


@every_cloud_model
@pytest.mark.parametrize("way", ["sync", "stream"])
async def test_citations(provider: LoopbackProvider, model: str, way: str) -> None:
    """Where a dialect has citations, they arrive as LiteLLM passes them on."""
    provider.reply("It is Paris.", citations=[{"url": "https://example.org/fr", "title": "France", "text": "Paris"}])
    message = (await ask(way, **arguments(provider, model))).choices[0].message
    if model.startswith("anthropic"):
        ((citation,),) = message.provider_specific_fields["citations"]
    else:
        citation = message.annotations[0]["url_citation"]
        assert (citation["start_index"], citation["end_index"]) == (6, 11)
    assert (citation["url"], citation["title"]) == ("https://example.org/fr", "France")


@every_cloud_model
@pytest.mark.parametrize("way", ["sync", "stream"])
async def test_refusal(provider: LoopbackProvider, model: str, way: str) -> None:
    """A refusal that a dialect marks ends with the finish reason of filtered content."""
    provider.reply(refusal="I cannot help with that.", finish_reason="content_filter")
    response = await ask(way, **arguments(provider, model))
    assert response.choices[0].finish_reason == "content_filter"


@every_model
def test_json_answer(provider: LoopbackProvider, model: str) -> None:
    """A request for JSON of a schema is answered with JSON of that schema."""
    schema = {
        "type": "object",
        "properties": {"capital": {"type": "string"}, "people": {"type": "integer"}},
        "required": ["capital", "people"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema, "strict": True}}
    response = litellm.completion(**arguments(provider, model, response_format=wanted))
    assert json.loads(response.choices[0].message.content) == {"capital": "Paris.", "people": 1}


def test_json_by_forced_tool(provider: LoopbackProvider) -> None:
    """A Claude too old for JSON output gets a tool forced on it by LiteLLM; scripted JSON text comes back as text."""
    provider.reply('{"capital": "Paris"}')
    schema = {"type": "object", "properties": {"capital": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
    kwargs = arguments(provider, "anthropic/claude-sonnet-4-5") | {"model": "anthropic/claude-3-5-haiku-20241022"}
    response = litellm.completion(**kwargs, response_format=wanted)
    assert provider.requests[0].ask.tool is not None
    assert json.loads(response.choices[0].message.content) == {"capital": "Paris"}
    assert response.choices[0].finish_reason == "stop"


def test_several_candidates(provider: LoopbackProvider) -> None:
    """Gemini's candidates are OpenAI's choices."""
    provider.reply("one", alternatives=["two"])
    response = litellm.completion(**arguments(provider, "gemini/gemini-2.5-flash", n=2))
    assert [choice.message.content for choice in response.choices] == ["one", "two"]


@every_way
async def test_ollama_generate(provider: LoopbackProvider, way: str) -> None:
    """Ollama's older endpoint, which LiteLLM's `ollama/…` uses, answers too."""
    provider.reply("It is Paris.", reasoning="A capital.")
    kwargs = {"model": "ollama/llama3.1", "messages": MESSAGES, "api_base": provider.ollama_base}
    response = await ask(way, **kwargs)
    assert response.choices[0].message.content == "It is Paris."
    assert response.choices[0].message.reasoning_content == "A capital."
    assert provider.requests[0].path == "/api/generate"


def test_ollama_embeddings(provider: LoopbackProvider) -> None:
    """Ollama's embeddings are the scripted vectors."""
    provider.reply(embeddings=[[1.0, 0.0], [0.0, 1.0]])
    response = litellm.embedding("ollama/nomic-embed-text", input=["a", "b"], api_base=provider.ollama_base)
    assert [entry["embedding"] for entry in response.data] == [[1.0, 0.0], [0.0, 1.0]]
