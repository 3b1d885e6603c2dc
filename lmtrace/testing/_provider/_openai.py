"""What OpenAI's endpoints have in common: usage, errors, finish reasons, tool calls, citations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmtrace._data import LMUsage
from lmtrace.testing._provider._answer import Choice
from lmtrace.testing._provider._dialect import sse, word
from lmtrace.testing._provider._reply import Failure

DONE = b"data: [DONE]\n\n"

_WORDS = {
    "context_length_exceeded": "This model's maximum context length is 8192 tokens. However, your messages resulted in "
    "9000 tokens. Please reduce the length of the messages.",
    "content_policy_violation": "Your request was rejected as a result of our safety system.",
    "400": "We could not parse the JSON body of your request.",
    "401": "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.",
    "403": "You are not allowed to sample from this model",
    "404": "The model does not exist or you do not have access to it.",
    "429": "Rate limit reached for this model in organization org-loopback on requests per min (RPM).",
    "500": "The server had an error while processing your request. Sorry about that!",
    "503": "The engine is currently overloaded, please try again later",
}

_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


def error(failure: Failure) -> Mapping[str, Any]:
    """OpenAI's error body."""
    kind = "requests" if failure.status == 429 else "server_error" if failure.status >= 500 else "invalid_request_error"
    code = failure.code or _CODES.get(failure.status)
    return {"error": {"message": word(_WORDS, failure), "type": kind, "param": None, "code": code}}


def error_event(failure: Failure) -> bytes:
    """The same inside a stream."""
    return sse(error(failure))


def usage(counted: LMUsage) -> dict[str, Any]:
    """Token counts as chat and text completions report them."""
    return {
        "prompt_tokens": counted.input_tokens,
        "completion_tokens": counted.output_tokens,
        "total_tokens": counted.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": counted.cache_read_tokens or 0,
            **({} if counted.cache_write_tokens is None else {"cache_write_tokens": counted.cache_write_tokens}),
            "audio_tokens": counted.audio_tokens or 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": counted.reasoning_tokens or 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def tool_calls(choice: Choice) -> list[dict[str, Any]]:
    """Tool calls as a message carries them."""
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in choice.tool_calls
    ]


def span(choice: Choice, passage: str | None) -> dict[str, int]:
    """Where in the answer a citation applies: at the cited passage, or everywhere."""
    text = choice.text or ""
    start = text.find(passage) if passage else 0
    found = passage is not None and start >= 0
    return {"start_index": max(start, 0), "end_index": start + len(passage or "") if found else len(text)}


def token(entry: tuple[str, float]) -> dict[str, Any]:
    """One token with its log probability."""
    text, logprob = entry
    plain = {"token": text, "logprob": logprob, "bytes": list(text.encode("utf-8", "surrogatepass"))}
    return {**plain, "top_logprobs": [plain]}
