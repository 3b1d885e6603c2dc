"""Recorded answers as what DSPy 3.4 works with: lm15's responses, the result of a call, and chunks for listeners."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from lmtrace._data import (
    LMChunk,
    LMCitationPart,
    LMOutput,
    LMReasoningPart,
    LMRefusalPart,
    LMRequest,
    LMResponse,
    LMTextPart,
    LMToolCallPart,
)
from lmtrace.integrations.dspy import _lm15_raw
from lmtrace.integrations.dspy._lm15 import COST_DETAILS, ENGINE, texts
from lmtrace.integrations.dspy._openai_form import lm15_logprobs, lm15_reason
from lmtrace.integrations.dspy._portable import litellm_answer


def is_native(response: LMResponse | None) -> bool:
    """Whether lm15 made the answer."""
    return response is not None and (response.metadata or {}).get("engine") == ENGINE


def call_result(lm: Any, call: Any, request: LMRequest, response: LMResponse) -> Any:
    """The `CallResult` an answer stands for, as DSPy's ``execute`` returns it."""
    from dspy.clients.call_result import CallResult, combine

    if not (is_native(response) or call.request is not None):
        result = CallResult.legacy(lm, litellm_answer(response, request), kwargs=call.legacy)
        result.cost_details = _cost_details(response)
        return result
    wants_logprobs = call.request.config.logprobs is not None if call.request else bool(call.legacy.get("logprobs"))
    results = [
        CallResult.native(one, model_type=lm.model_type, logprobs=wants_logprobs) for one in _responses(response)
    ]
    result = results[0] if len(results) == 1 else combine(results, model_type=lm.model_type)
    if response.usage is not None and response.usage.details:
        result.usage = dict(response.usage.details)
    result.cost = response.cost
    result.cost_details = _cost_details(response)
    result.response_model = response.model or result.response_model
    return result


def _cost_details(response: LMResponse) -> dict[str, Any]:
    return dict((response.metadata or {}).get(COST_DETAILS) or {})


def _responses(response: LMResponse) -> list[Any]:
    from dspy._vendor.lm15.serde import response_from_dict

    return [response_from_dict(_response(response, output)) for output in response.outputs]


def _response(response: LMResponse, output: LMOutput) -> dict[str, Any]:
    """The JSON form of one candidate's response."""
    given = _lm15_raw.given(dict(output.provider_data or {}), texts(output.parts)) if is_native(response) else {}
    given.setdefault("usage", _usage(response))
    return {
        "id": response.response_id,
        "model": response.model or "",
        **given,
        "message": {"role": "assistant", "parts": [_part(part) for part in output.parts] or [_NOTHING]},
        "finish_reason": lm15_reason(output),
        "logprobs": lm15_logprobs(output),
    }


_NOTHING: Final = {"type": "text", "text": ""}


def _usage(response: LMResponse) -> dict[str, Any]:
    usage = response.usage
    if usage is None:
        return {}
    names = (
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
    )
    return {name: value for name in names if (value := getattr(usage, name)) is not None}


def _part(part: Any) -> dict[str, Any]:
    """lm15's JSON form of a part."""
    rest = part.provider_data or {}
    make = _PARTS.get(type(part))
    if make is None:
        return dict(rest) if rest.get("type") else _NOTHING
    made = make(part)
    return {**made, "continuation": rest["continuation"]} if rest.get("continuation") else made


def _tool_call(part: LMToolCallPart) -> dict[str, Any]:
    arguments = part.arguments
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = {}
    return {"type": "tool_call", "id": part.id or "", "name": part.name or "", "input": arguments or {}}


def _citation(part: LMCitationPart) -> dict[str, Any]:
    return {"type": "citation", "title": part.title, "url": part.url, "text": part.text}


_PARTS: Final[dict[Any, Callable[[Any], dict[str, Any]]]] = {
    LMTextPart: lambda part: {"type": "text", "text": part.text},
    LMReasoningPart: lambda part: {"type": "thinking", "text": part.text or ""},
    LMRefusalPart: lambda part: {"type": "refusal", "text": part.text},
    LMToolCallPart: _tool_call,
    LMCitationPart: _citation,
}


def chunk(recorded: LMChunk, response: LMResponse | None, predict_id: int | None) -> Any:
    """DSPy's chunk for listeners."""
    from dspy.clients.call_result import attributes
    from dspy.clients.engines.streaming import EngineChunk

    (choice,) = recorded.raw["choices"] if recorded.raw is not None else [_choice(recorded)]
    choice = {**choice, "delta": {"content": None, **choice["delta"]}, "index": 0}
    return EngineChunk(
        id=response.response_id if response is not None else None,
        model=response.model if response is not None else None,
        predict_id=predict_id,
        choices=[attributes(choice)],
    )


def _choice(recorded: LMChunk) -> dict[str, Any]:
    delta = {"content": recorded.text} if recorded.text or not recorded.reasoning else {}
    if recorded.reasoning:
        delta["reasoning_content"] = recorded.reasoning
    return {"index": 0, "delta": delta, "finish_reason": None}
