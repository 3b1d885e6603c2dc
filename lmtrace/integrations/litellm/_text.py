"""Text completions: LiteLLM's `TextCompletionResponse` as an `LMResponse`, and back, lossless."""

from __future__ import annotations

from typing import Any, Final

from lmtrace._data import LMOutput, LMPart, LMReasoningPart, LMResponse, LMTextPart
from lmtrace.integrations.litellm import _chat, _models, _usage

_TAKEN: Final = ("text", "finish_reason", "logprobs", "reasoning_content")


def from_text(obj: Any) -> LMResponse:
    """The normalised form of a text completion."""
    data = _models.fields_of(obj)
    usage = _usage.usage_of(data.pop("usage", None))
    hidden = _models.hidden_params(obj)
    cost = _usage.cost_of(obj, hidden, usage)
    outputs = [read_choice(choice, index) for index, choice in enumerate(data.pop("choices"))]
    if not outputs:
        outputs, data["choices"] = [LMOutput()], []
    del data["object"]
    return LMResponse(
        model=data.pop("model", None),
        outputs=outputs,
        usage=usage,
        cost=cost,
        cache_hit=_usage.is_cache_hit(hidden),
        response_id=data.pop("id", None),
        provider_data=data,
        metadata={"cost_source": _usage.COST_SOURCE} if cost is not None else None,
    )


def read_choice(choice: Any, position: int) -> LMOutput:
    """A candidate given as plain data."""
    rest = {name: value for name, value in choice.items() if name not in _TAKEN}
    if rest.get("index") == position:
        del rest["index"]
    parts: list[LMPart] = []
    if choice.get("reasoning_content") is not None:
        parts.append(LMReasoningPart(choice["reasoning_content"]))
    if choice.get("text") is not None:
        parts.append(LMTextPart(choice["text"]))
    if "reasoning_content" in choice and choice["reasoning_content"] is None:
        rest["reasoning_content"] = None
    reason = choice.get("finish_reason")
    return LMOutput(
        parts=parts,
        finish_reason=reason,
        truncated=reason == "length",
        logprobs=choice.get("logprobs"),
        provider_data=rest or None,
    )


def to_text(response: LMResponse) -> Any:
    """The LiteLLM object a response stands for."""
    from litellm.types.llms.base import HiddenParams
    from litellm.types.utils import TextCompletionResponse, Usage

    data = dict(response.provider_data or {})
    outputs = response.outputs if data.pop("choices", None) is None else ()
    values: dict[str, Any] = {
        "id": response.response_id,
        "object": "text_completion",
        "created": data.pop("created", 0),
        "model": response.model,
        **data,
        "choices": [_choice(output, index) for index, output in enumerate(outputs)],
        "usage": _models.build(Usage, _chat.chat_usage(response) or {}),
    }
    obj = _models.build(TextCompletionResponse, values)
    obj._hidden_params = HiddenParams()
    return obj


def _choice(output: LMOutput, position: int) -> Any:
    from litellm.types.utils import Logprobs, TextChoices

    is_object = isinstance(output.logprobs, dict)
    reasoning = {} if output.reasoning is None else {"reasoning_content": output.reasoning}
    values = {
        "finish_reason": output.finish_reason,
        "index": position,
        "text": output.text,
        "logprobs": _models.build(Logprobs, output.logprobs) if is_object else output.logprobs,
        **reasoning,
        **(output.provider_data or {}),
    }
    return _models.build(TextChoices, values)
