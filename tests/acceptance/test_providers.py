"""The multi-provider contract: whoever serves the model and however it is asked, the same answer is the same row.

Each call goes through LiteLLM's real code and real HTTP to a provider that speaks OpenAI's, Anthropic's, Gemini's or
Ollama's format. What LiteLLM itself makes different is in `DIFFERENCES`, with the reason.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import litellm
import pytest

import lmtrace
from lmtrace.testing import LoopbackProvider, Reply

sys.path.insert(0, str(Path(__file__).parent))

from litellm_runs import run

MODELS = {
    "openai": "openai/gpt-4o-mini",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "gemini": "gemini/gemini-2.5-flash",
    "ollama": "ollama_chat/llama3.1",
}
QUESTION = [{"role": "user", "content": "What is the weather in Oslo?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
KEY = "key-5c0ffee5c0ffee"


def connection(shape: str, provider: LoopbackProvider) -> dict[str, Any]:
    return {"api_key": KEY, "api_base": getattr(provider, f"{shape}_base")}


def lm_of(model: str, given: Mapping[str, Any]) -> lmtrace.LM:
    return lmtrace.LM(model, num_retries=0, **given)


def lm_call(model: str, asked: dict[str, Any], given: dict[str, Any]) -> None:
    lm_of(model, given)(messages=QUESTION, **asked)


def lm_stream(model: str, asked: dict[str, Any], given: dict[str, Any]) -> None:
    for _ in lm_of(model, given).stream(messages=QUESTION, **asked):
        continue


async def lm_acall(model: str, asked: dict[str, Any], given: dict[str, Any]) -> None:
    await lm_of(model, given).acall(messages=QUESTION, **asked)


async def lm_astream(model: str, asked: dict[str, Any], given: dict[str, Any]) -> None:
    async for _ in lm_of(model, given).astream(messages=QUESTION, **asked):
        continue


ONCE = {"max_retries": 0, "num_retries": 0}


def litellm_call(model: str, asked: dict[str, Any], given: dict[str, Any]) -> None:
    litellm.completion(model, QUESTION, **ONCE, **asked, **given)


def litellm_stream(model: str, asked: dict[str, Any], given: dict[str, Any]) -> None:
    for _ in litellm.completion(model, QUESTION, stream=True, **ONCE, **asked, **given):
        continue


async def litellm_acall(model: str, asked: dict[str, Any], given: dict[str, Any]) -> None:
    await litellm.acompletion(model, QUESTION, **ONCE, **asked, **given)


async def litellm_astream(model: str, asked: dict[str, Any], given: dict[str, Any]) -> None:
    async for _ in await litellm.acompletion(model, QUESTION, stream=True, **ONCE, **asked, **given):
        continue


WAYS: dict[str, Callable[..., Awaitable[None] | None]] = {
    "lm": lm_call,
    "lm-stream": lm_stream,
    "lm-async": lm_acall,
    "lm-async-stream": lm_astream,
    "litellm": litellm_call,
    "litellm-stream": litellm_stream,
    "litellm-async": litellm_acall,
    "litellm-async-stream": litellm_astream,
}

EVERY_ROW = {
    "operation": "chat",
    "model_type": "chat",
    "messages": QUESTION,
    "served_by": "provider",
    "cache_hit": False,
    "attempts": 1,
    "rollout_id": None,
    "prompt": None,
}
NO_ERROR = {"error_type": None, "error_message": None, "error_status": None}
NO_ANSWER = dict.fromkeys(
    ("outputs", "output_text", "finish_reasons", "response", "response_model", "usage", "cost", "input_tokens")
)
CALL = {"type": "function", "id": "…", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "text": (
        {"text": "It rains in Oslo.", "usage": {"input_tokens": 11, "output_tokens": 7}},
        {"temperature": 0.5, "max_tokens": 50},
        {
            **NO_ERROR,
            "outputs": ["It rains in Oslo."],
            "output_text": "It rains in Oslo.",
            "finish_reasons": ["stop"],
            "input_tokens": 11,
            "output_tokens": 7,
            "total_tokens": 18,
            "temperature": 0.5,
            "max_tokens": 50,
            "tools": None,
        },
    ),
    "tool call": (
        {
            "tool_calls": [{"name": "weather", "arguments": {"city": "Oslo"}}],
            "usage": {"input_tokens": 30, "output_tokens": 9},
        },
        {"tools": [TOOL]},
        {
            **NO_ERROR,
            "outputs": [{"text": None, "tool_calls": [CALL]}],
            "output_text": None,
            "finish_reasons": ["tool_calls"],
            "input_tokens": 30,
            "output_tokens": 9,
            "total_tokens": 39,
            "tools": [TOOL],
        },
    ),
    "cut": (
        {"text": "It rai", "finish_reason": "length", "usage": {"input_tokens": 11, "output_tokens": 2}},
        {"max_tokens": 2},
        {**NO_ERROR, "output_text": "It rai", "finish_reasons": ["length"], "output_tokens": 2, "max_tokens": 2},
    ),
}
"""What the provider answers, what is asked beside the question, and what columns of the row then hold."""

FAILURES = {
    400: ("litellm.exceptions.BadRequestError", lmtrace.LMInvalidRequestError),
    401: ("litellm.exceptions.AuthenticationError", lmtrace.LMAuthError),
    429: ("litellm.exceptions.RateLimitError", lmtrace.LMRateLimitError),
}
"""The `error_type` of a status, and what an `lmtrace.LM` raises."""

UNASKED = {"input_tokens": None, "output_tokens": None, "total_tokens": None, "usage": None}
EMPTY = {"outputs": [{"text": "", "tool_calls": [CALL]}], "output_text": ""}

DIFFERENCES: tuple[tuple[str, str, str, dict[str, Any], str], ...] = (
    (
        "openai",
        "litellm(-async)?-stream",
        "text|tool call|cut",
        UNASKED,
        "OpenAI counts the tokens of a stream only for stream_options.include_usage; lmtrace.LM asks for it, LiteLLM does not",
    ),
    (
        "ollama",
        "(lm|litellm)(-async)?",
        "tool call",
        EMPTY,
        "Ollama sends an empty text beside tool calls, and LiteLLM keeps it",
    ),
    (
        "gemini",
        ".*-stream",
        "429",
        {"error_type": "litellm.exceptions.MidStreamFallbackError"},
        "LiteLLM calls a refused stream of Gemini one that broke; the status is right",
    ),
)
"""Shape, way and case (patterns), the columns that differ, and why."""


def differing(shape: str, way: str, case: object) -> dict[str, Any]:
    """The columns that LiteLLM makes different here."""
    return {
        name: value
        for pattern in DIFFERENCES
        if all(re.fullmatch(*pair) for pair in zip(pattern, (shape, way, str(case)), strict=False))
        for name, value in pattern[3].items()
    }


@pytest.fixture(scope="module")
def provider() -> Iterator[LoopbackProvider]:
    """One provider for all of them: each test scripts what it needs and uses it up."""
    with LoopbackProvider() as running:
        yield running


@pytest.fixture
def ask(provider: LoopbackProvider, quiet_litellm: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes one call in one of the ways; LiteLLM is instrumented where it is called directly."""
    monkeypatch.delenv("OLLAMA_API_BASE", raising=False)

    def make(way: str, shape: str, asked: dict[str, Any]) -> None:
        with instrumented() if way.startswith("litellm") else nullcontext():
            result = WAYS[way](MODELS[shape], asked, connection(shape, provider))
            if result is not None:
                run(result)

    return make


@contextmanager
def instrumented() -> Iterator[None]:
    lmtrace.instrument()
    try:
        yield
    finally:
        lmtrace.uninstrument()


def only_row() -> dict[str, Any]:
    with lmtrace.history() as history:
        (row,) = history.recent(2)
    return row


def seen(row: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """The expected columns of a row; ids that the provider made up stand as ``…``."""
    found = {name: row[name] for name in expected}
    for output in found.get("outputs") or ():
        for call in output["tool_calls"] if isinstance(output, dict) else ():
            assert call["id"]
            call["id"] = "…"
            call["function"]["arguments"] = call["function"]["arguments"].replace(" ", "")
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", MODELS)
def test_answers(shape: str, way: str, case: str, ask: Callable[..., None], provider: LoopbackProvider) -> None:
    """Messages, parameters, answer, tool calls, finish reason and token counts are the same; the price is the model's."""
    reply, asked, columns = CASES[case]
    identity = {"model": MODELS[shape], "provider": PROVIDERS[shape], "streamed": "stream" in way}
    expected = {**EVERY_ROW, **columns, **identity, **differing(shape, way, case)}
    provider.reply(Reply(**reply))
    ask(way, shape, asked)
    row = only_row()
    assert seen(row, expected) == expected
    assert row["cost"] == price(shape, row)
    assert row["billed_cost"] == row["cost"]
    assert (row["time_to_first_chunk_ms"] is not None) == ("stream" in way)
    assert row["response_id"]
    assert KEY not in str(row)


PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "gemini": "gcp.gemini", "ollama": "ollama"}
"""The names that the GenAI conventions have for them."""


def price(shape: str, row: Mapping[str, Any]) -> Any:
    known = litellm.model_cost.get(MODELS[shape].partition("/")[2])
    if known is None or row["input_tokens"] is None:
        return None
    return pytest.approx(
        row["input_tokens"] * known["input_cost_per_token"] + row["output_tokens"] * known["output_cost_per_token"]
    )


@pytest.mark.parametrize("status", FAILURES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", MODELS)
def test_errors(shape: str, way: str, status: int, ask: Callable[..., None], provider: LoopbackProvider) -> None:
    """A refused call is a row with the class and the status of the error, what the provider said, and no answer."""
    kind, ours = FAILURES[status]
    expected = {**EVERY_ROW, **NO_ANSWER, "error_type": kind, "error_status": status, "model": MODELS[shape]}
    expected |= differing(shape, way, status)
    provider.fail(status=status)
    with pytest.raises(ours if way.startswith("lm-") or way == "lm" else Exception):
        ask(way, shape, {})
    row = only_row()
    assert seen(row, expected) == expected
    assert row["error_message"]
    assert KEY not in str(row)
