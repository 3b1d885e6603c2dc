"""What DSPy's LM calls return, as normalised responses: LiteLLM's objects, DSPy's own results, and anything a custom LM made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from lmtrace import _semconv as names
from lmtrace._data import LMOutput, LMPart, LMReasoningPart, LMResponse, LMTextPart, LMToolCallPart, LMUsage
from lmtrace.integrations.dspy import _lm15
from lmtrace.integrations.litellm._translate import from_litellm, is_answer
from lmtrace.integrations.litellm._usage import usage_of, valid_cost

ENGINE: Final = names.DSPY_ENGINE


def read(lm: Any, seen: Any, outputs: Any) -> tuple[LMResponse, str]:
    """The response of a call, and the engine that made it: ``litellm``, ``lm15`` or ``custom``.

    Args:
        lm: Who was asked.
        seen: What passed on the way: LiteLLM's object, or DSPy's own result.
        outputs: What the call returned.
    """
    kind: Any = type(seen)
    if hasattr(kind, "response_model") and isinstance(seen.outputs, list):  # DSPy 3.4's CallResult
        return _from_result(lm, seen)
    if hasattr(kind, "to_legacy_outputs"):  # DSPy 3.3's typed answer
        seen, outputs = seen.provider_response or seen, seen.to_legacy_outputs()
    if seen is None:
        return _from_outputs(lm, outputs), "custom"
    if is_answer(seen):
        return _hit(from_litellm(seen), getattr(seen, "cache_hit", False)), "litellm"
    return _from_outputs(lm, outputs, seen), "custom"


def _hit(response: LMResponse, cache_hit: Any) -> LMResponse:
    """The response, marked when it came out of DSPy's cache."""
    return replace(response, cache_hit=True) if cache_hit is True else response


def _from_result(lm: Any, result: Any) -> tuple[LMResponse, str]:
    if not result.responses and is_answer(result.raw):
        response = _detailed(_priced(from_litellm(result.raw), result.cost), result.cost_details)
        return _hit(response, result.cache_hit), "litellm"
    usage = usage_of(dict(result.usage)) if result.usage else None
    if result.responses:
        return _lm15.response(result, usage), "lm15"
    response = _from_outputs(lm, result.outputs)
    response = replace(response, usage=usage, model=result.response_model or response.model)
    return _hit(_priced(response, result.cost), result.cache_hit), "custom"


def _priced(response: LMResponse, cost: Any) -> LMResponse:
    """The response with DSPy's price, where it has none of its own."""
    known = valid_cost(cost)
    if known is None or response.cost is not None:
        return response
    return replace(response, cost=known, metadata={**(response.metadata or {}), "cost_source": _lm15.COST_SOURCE})


def _detailed(response: LMResponse, cost_details: Any) -> LMResponse:
    """The response with how DSPy came to its price."""
    if not cost_details:
        return response
    return replace(response, metadata={**(response.metadata or {}), _lm15.COST_DETAILS: cost_details})


def _from_outputs(lm: Any, outputs: Any, seen: Any = None) -> LMResponse:
    """The response of a custom LM, as far as its outputs tell."""
    items = outputs if isinstance(outputs, Sequence) and not isinstance(outputs, str) else [outputs]
    return LMResponse(
        model=_text(getattr(seen, "model", None)) or lm.model,
        outputs=[_output(item) for item in items] or [LMOutput()],
        usage=_usage(getattr(seen, "usage", None)),
        cost=valid_cost(getattr(seen, "cost", None)),
        cache_hit=getattr(seen, "cache_hit", False) is True,
        response_id=_text(getattr(seen, "id", None)),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _usage(usage: Any) -> LMUsage | None:
    """The counts of a usage object of OpenAI's shape."""
    if usage is None:
        return None
    dumped = usage.model_dump() if hasattr(type(usage), "model_dump") else usage  # a mock has all, and remembers it
    return usage_of(dict(dumped)) if isinstance(dumped, Mapping) and dumped else None


def _output(item: Any) -> LMOutput:
    if not isinstance(item, Mapping):
        return LMOutput(parts=(LMTextPart(item),) if isinstance(item, str) else ())
    parts: list[LMPart] = []
    if isinstance(item.get("reasoning_content"), str):
        parts.append(LMReasoningPart(item["reasoning_content"]))
    if isinstance(item.get("text"), str):
        parts.append(LMTextPart(item["text"]))
    parts += [_tool_call(call) for call in item.get("tool_calls") or ()]
    return LMOutput(parts=parts, logprobs=item.get("logprobs"))


def _tool_call(call: Any) -> LMToolCallPart:
    """A call in the form of the chat or of the Responses interface, as data or as an object."""
    function = _field(call, "function") or call
    number = _field(call, "call_id") or _field(call, "id")
    name, arguments = _text(_field(function, "name")), _field(function, "arguments")
    return LMToolCallPart(id=_text(number), name=name, arguments=arguments)


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
