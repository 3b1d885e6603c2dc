"""An answer that was recorded whole, for a program that wants it streamed: each candidate in one step, then its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lmtrace._data import LMChunk, LMRequest, LMResponse
from lmtrace.integrations.litellm._chat import chat_usage
from lmtrace.integrations.litellm._translate import to_litellm


def whole_steps(request: LMRequest, response: LMResponse) -> list[LMChunk]:
    """The steps; `raw` of each is LiteLLM's chunk as plain data."""
    if request.model_type == "responses":
        return list(_events(response))
    choices = to_litellm(response, request.model_type).choices
    steps = [step for choice in choices for step in _choice_steps(choice, is_text=request.model_type == "text")]
    options = request.kwargs.get("stream_options")
    usage = chat_usage(response)
    if isinstance(options, Mapping) and options.get("include_usage") and usage is not None:
        steps.append(LMChunk(raw={"choices": [{"index": 0, "delta": {}}], "usage": dict(usage)}))
    return steps


def _choice_steps(choice: Any, *, is_text: bool) -> Iterator[LMChunk]:
    index = choice.index
    if is_text:
        yield LMChunk(text=choice.text or "", index=index)
        yield LMChunk(
            index=index, raw={"choices": [{"index": index, "text": "", "finish_reason": choice.finish_reason}]}
        )
        return
    delta = choice.message.model_dump(exclude_none=True)
    calls = delta.get("tool_calls") or ()
    if calls:
        delta["tool_calls"] = [{"index": number, **call} for number, call in enumerate(calls)]
    first: dict[str, Any] = {"index": index, "delta": delta}
    logprobs = getattr(choice, "logprobs", None)
    if logprobs is not None:
        first["logprobs"] = logprobs if isinstance(logprobs, dict) else logprobs.model_dump(exclude_none=True)
    yield LMChunk(text=choice.message.content or "", index=index, raw={"choices": [first]})
    yield LMChunk(index=index, raw={"choices": [{"index": index, "delta": {}, "finish_reason": choice.finish_reason}]})


def _events(response: LMResponse) -> Iterator[LMChunk]:
    text = response.outputs[0].text
    if text:
        yield LMChunk(text=text)
    yield LMChunk(raw={"type": "response.completed"})
