"""What only OpenAI's endpoints have, read by OpenAI's own client and by LiteLLM."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import litellm
import openai
import pytest

from lmtrace.testing import LoopbackProvider, Reply

pytestmark = pytest.mark.usefixtures("litellm_clients")

QUESTION = "What is the capital of France?"
MESSAGES: Any = [{"role": "user", "content": QUESTION}]
FULL = Reply(
    text="It is Paris.",
    reasoning="A capital is asked for.",
    tool_calls=[{"id": "call_1", "name": "get_weather", "arguments": {"city": "Paris"}}],
    citations=[{"url": "https://example.org/fr", "title": "France", "text": "Paris"}],
    usage={"input_tokens": 100, "output_tokens": 50, "reasoning_tokens": 20, "cache_read_tokens": 30},
)


@pytest.fixture
def client(provider: LoopbackProvider) -> Iterator[openai.OpenAI]:
    """OpenAI's own client, pointed at the provider."""
    with openai.OpenAI(base_url=provider.openai_base, api_key="sk-any", max_retries=0) as client:
        yield client


@pytest.fixture
def kwargs(provider: LoopbackProvider) -> dict[str, Any]:
    """What LiteLLM needs to reach the provider."""
    return {"api_base": provider.openai_base, "api_key": "sk-any", "max_retries": 0}


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices(provider: LoopbackProvider, kwargs: dict[str, Any], stream: bool) -> None:
    """Alternatives are the further choices, and the reply itself stands in for missing ones; streams take turns."""
    provider.reply("one", alternatives=["two"])
    response: Any = litellm.completion("openai/gpt-4o-mini", MESSAGES, n=3, stream=stream, **kwargs)
    if not stream:
        assert [choice.message.content for choice in response.choices] == ["one", "two", "one"]
        return
    texts = {0: "", 1: "", 2: ""}
    for chunk in response:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert list(texts.values()) == ["one", "two", "one"]


def test_log_probabilities(provider: LoopbackProvider, client: openai.OpenAI) -> None:
    """Scripted log probabilities arrive beside their tokens, whole or streamed."""
    scripted = [("It ", -0.1), ("is Paris.", -0.5)]
    for stream in (False, True):
        provider.reply("It is Paris.", logprobs=scripted)
        response: Any = client.chat.completions.create(
            model="gpt-4o-mini", messages=MESSAGES, logprobs=True, stream=stream
        )
        choices = [chunk.choices[0] for chunk in response] if stream else response.choices
        found = [entry for choice in choices if choice.logprobs for entry in choice.logprobs.content]
        assert [(entry.token, entry.logprob) for entry in found] == scripted


def test_usage_of_streams(provider: LoopbackProvider, client: openai.OpenAI) -> None:
    """A stream ends with the counts when they were asked for, and has none otherwise."""
    options: Any = {"include_usage": True}
    asked = list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True, stream_options=options))
    assert asked[-1].usage is not None
    assert asked[-1].usage.total_tokens == 10
    plain = list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
    assert all(chunk.usage is None for chunk in plain)


def test_server_without_usage(provider: LoopbackProvider, client: openai.OpenAI) -> None:
    """A reply that reports no usage has none."""
    provider.reply("Paris.", reports_usage=False)
    assert client.chat.completions.create(model="m", messages=MESSAGES).usage is None


def test_refusal_and_extra_fields(provider: LoopbackProvider, client: openai.OpenAI) -> None:
    """A refusal has a field of its own, and further fields of the body are passed through."""
    provider.reply(refusal="No.", extra={"system_fingerprint": "fp_1"}, model="gpt-4o-2024-08-06", id="chatcmpl-x")
    response = client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert (response.choices[0].message.content, response.choices[0].message.refusal) == (None, "No.")
    assert (response.system_fingerprint, response.model, response.id) == ("fp_1", "gpt-4o-2024-08-06", "chatcmpl-x")


def test_forced_tool(client: openai.OpenAI) -> None:
    """A request that insists on a tool gets a call of it, with arguments of its schema."""
    function = {"name": "look_up", "parameters": {"type": "object", "properties": {"topic": {"type": "string"}}}}
    tools: Any = [{"type": "function", "function": function}]
    response = client.chat.completions.create(model="m", messages=MESSAGES, tools=tools, tool_choice="required")
    call: Any = (response.choices[0].message.tool_calls or [])[0]
    assert (call.function.name, json.loads(call.function.arguments)) == ("look_up", {"topic": "Paris."})


@pytest.mark.parametrize("stream", [False, True])
def test_text_completion(provider: LoopbackProvider, kwargs: dict[str, Any], stream: bool) -> None:
    """Text completions answer a prompt, whole or streamed."""
    model = "text-completion-openai/gpt-3.5-turbo-instruct"
    provider.reply("It is Paris.")
    response: Any = litellm.text_completion(model=model, prompt=QUESTION, stream=stream, **kwargs)
    if stream:
        assert "".join(chunk.choices[0].text or "" for chunk in response) == "It is Paris."
    else:
        assert response.choices[0].text == "It is Paris."
        assert response.usage.total_tokens == 8 + 3
    assert provider.requests[0].prompt == QUESTION


def test_text_log_probabilities(client: openai.OpenAI) -> None:
    """Log probabilities of text completions are lists side by side."""
    logprobs = client.completions.create(model="m", prompt="echo me", logprobs=1).choices[0].logprobs
    assert logprobs is not None
    assert "".join(logprobs.tokens or []) == "You said: echo me"
    assert logprobs.text_offset == [0, 3, 9, 14]


def test_embeddings(provider: LoopbackProvider, client: openai.OpenAI, kwargs: dict[str, Any]) -> None:
    """Vectors depend on the text alone, have the wanted size, and survive base64."""
    model = "openai/text-embedding-3-small"
    response = litellm.embedding(model, input=["a", "b", "a"], dimensions=16, encoding_format="float", **kwargs)
    first, second, third = (entry["embedding"] for entry in response.data)
    assert first == third != second
    assert len(first) == 16
    assert response.usage.prompt_tokens == 3
    encoded = client.embeddings.create(model="m", input="a", dimensions=16)  # this client asks for base64
    assert provider.requests[-1].json["encoding_format"] == "base64"
    assert encoded.data[0].embedding == pytest.approx(first)


def test_models(client: openai.OpenAI) -> None:
    """The list of models can be had."""
    assert [model.id for model in client.models.list()] == ["loopback"]


def test_responses(provider: LoopbackProvider, client: openai.OpenAI) -> None:
    """Reasoning, message and function call are items of a response."""
    provider.reply(FULL)
    response = client.responses.create(model="gpt-5-mini", input=QUESTION)
    reasoning, message, call = response.output
    assert reasoning.type == "reasoning"
    assert reasoning.summary[0].text == FULL.reasoning
    assert message.type == "message"
    assert response.output_text == FULL.text
    assert call.type == "function_call"
    assert (call.call_id, call.name, json.loads(call.arguments)) == ("call_1", "get_weather", {"city": "Paris"})
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.total_tokens) == (100, 150)
    assert response.usage.output_tokens_details.reasoning_tokens == 20
    assert response.status == "completed"


def test_responses_stream(provider: LoopbackProvider, client: openai.OpenAI) -> None:
    """A stream builds the same response up, in numbered events."""
    provider.reply(FULL)
    with client.responses.stream(model="gpt-5-mini", input=QUESTION) as stream:
        events: list[Any] = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events if hasattr(event, "sequence_number")] == sorted(
        event.sequence_number for event in events if hasattr(event, "sequence_number")
    )
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == FULL.text
    assert final.output_text == FULL.text
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]


def test_responses_cut_short(provider: LoopbackProvider, client: openai.OpenAI) -> None:
    """A response that hit the token limit is incomplete, and says why."""
    response = client.responses.create(model="gpt-5-mini", input=QUESTION, max_output_tokens=1)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.skipif(not importlib.util.find_spec("mcp"), reason="LiteLLM 1.106 imports mcp for every Responses call")
@pytest.mark.parametrize("stream", [False, True])
def test_responses_by_litellm(provider: LoopbackProvider, kwargs: dict[str, Any], stream: bool) -> None:
    """LiteLLM reads the Responses endpoint too."""
    provider.reply(FULL)
    response: Any = litellm.responses(model="openai/gpt-5-mini", input=QUESTION, stream=stream, **kwargs)
    whole = list(response)[-1].response if stream else response
    assert [item.type for item in whole.output] == ["reasoning", "message", "function_call"]
    assert provider.requests[0].prompt == QUESTION
