"""The program that the demo records: an ordinary user of LiteLLM and of `lmtrace.LM`, with answers from loopback."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import litellm

import lmtrace
from lmtrace.testing import LoopbackProvider, Reply

MODEL = "openai/gpt-4o-mini"

WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city now.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def make_calls(provider: LoopbackProvider) -> lmtrace.Run:
    """Make the demo's calls in one run: plain, streamed, with a tool, two rollouts, and one that fails."""
    litellm.suppress_debug_info = True  # or it prints a banner when a call fails
    there: dict[str, Any] = {"api_base": provider.openai_base, "api_key": "none-needed"}
    _warm_up(there)
    lmtrace.instrument()
    with lmtrace.run("demo", tags={"purpose": "a first look"}) as run:
        _ask(provider, there)
        _stream(provider, there)
        _use_tool(provider, there)
        _two_rollouts(provider, there)
        _fail(provider, there)
    return run


def _warm_up(there: dict[str, Any]) -> None:
    """Let LiteLLM import what it imports with its first calls, seconds of it, before anything is timed and recorded."""
    messages = [{"role": "user", "content": "Hello?"}]
    litellm.completion(MODEL, messages, tools=[WEATHER_TOOL], **there)
    for _ in litellm.completion(MODEL, messages, stream=True, **there):
        pass


def _ask(provider: LoopbackProvider, there: dict[str, Any]) -> None:
    provider.reply("Paris.")
    messages = [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": "What is the capital of France?"},
    ]
    litellm.completion(MODEL, messages, temperature=0, **there)


def _stream(provider: LoopbackProvider, there: dict[str, Any]) -> None:
    provider.reply("Old pond, a frog leaps in: the sound of water.")
    messages = [{"role": "user", "content": "Recite a haiku about a frog."}]
    options = {"include_usage": True}  # without it OpenAI sends no token counts with a stream
    for _ in litellm.completion(MODEL, messages, stream=True, stream_options=options, **there):
        pass  # a program would print the chunks as they arrive


def _use_tool(provider: LoopbackProvider, there: dict[str, Any]) -> None:
    provider.reply(Reply(tool_calls=[{"name": "get_weather", "arguments": {"city": "Paris"}}]))
    messages: list[Any] = [{"role": "user", "content": "Do I need an umbrella in Paris?"}]
    answer = litellm.completion(MODEL, messages, tools=[WEATHER_TOOL], **there).choices[0].message
    messages.append(answer.model_dump())
    for call in answer.tool_calls:
        result = json.dumps({"weather": "rain", "celsius": 11})
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    provider.reply("Yes: it rains, at 11 °C.")
    litellm.completion(MODEL, messages, tools=[WEATHER_TOOL], **there)


def _two_rollouts(provider: LoopbackProvider, there: dict[str, Any]) -> None:
    lm = lmtrace.LM(MODEL, temperature=1.0, cache=False, **there)
    for rollout, answer in enumerate(("Teal.", "Ochre."), 1):
        provider.reply(answer)
        lm("Name a colour nobody names.", rollout_id=rollout)


def _fail(provider: LoopbackProvider, there: dict[str, Any]) -> None:
    provider.fail(status=429, message="You sent requests too fast.")
    lm = lmtrace.LM(MODEL, num_retries=0, **there)
    with suppress(lmtrace.LMError):
        lm("Are you still there?")
