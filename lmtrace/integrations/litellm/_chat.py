"""Chat completions: LiteLLM's `ModelResponse` as an `LMResponse`, and back, lossless."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lmtrace._data import LMOutput, LMResponse
from lmtrace._quick import new_output, new_response
from lmtrace.integrations.litellm import _message, _models, _usage

_TAKEN: Final = frozenset({"id", "choices", "model", "object", "usage"})
"""Fields of a response that have a place of their own."""


def from_chat(obj: Any) -> LMResponse:
    """The normalised form of a chat completion."""
    own, extra = obj.__dict__, obj.__pydantic_extra__ or {}
    usage = _usage.usage_of(extra.get("usage") or own.get("usage"))
    hidden = _models.hidden_params(obj)
    cost = _usage.cost_of(obj, hidden, usage)
    choices = own["choices"]
    data = _rest(obj, own, extra)
    outputs = [_output(choice, index) for index, choice in enumerate(choices)]
    if not outputs:
        outputs, data["choices"] = [LMOutput()], []
    return new_response(
        model=own.get("model"),
        outputs=outputs,
        usage=usage,
        cost=cost,
        cache_hit=_usage.is_cache_hit(hidden),
        response_id=own.get("id"),
        provider_data=data,
        metadata={"cost_source": _usage.COST_SOURCE} if cost is not None else None,
    )


def _rest(obj: Any, own: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """What has no place of its own in a response: when it was made, fingerprints, extensions."""
    rest: dict[str, Any] = {}
    for entries in (own, extra):
        for name, value in entries.items():
            if name in _TAKEN or name[0] == "_" or (value is None and not _says_null(obj, name)):
                continue
            rest[name] = _models.plain(value)
    return rest


def _says_null(obj: Any, name: str) -> bool:
    return name != "system_fingerprint" and name in obj.__pydantic_fields_set__


def _output(choice: Any, position: int) -> LMOutput:
    own = choice.__dict__
    parts, message = _message.read_message(own["message"])
    reason = own["finish_reason"]
    logprobs = own.get("logprobs")
    data: dict[str, Any] = {"message": message} if message else {}
    if len(own) > 3 or choice.__pydantic_extra__ or own["index"] != position:
        data |= _choice_rest(choice, position)
    return new_output(
        parts=parts,
        finish_reason=reason,
        truncated=reason == "length",
        logprobs=None if logprobs is None else _models.plain(logprobs),
        provider_data=data or None,
    )


def _choice_rest(choice: Any, position: int) -> dict[str, Any]:
    rest = _models.fields_of(choice)
    for name in ("message", "finish_reason", "logprobs"):
        rest.pop(name, None)
    if rest.get("index") == position:
        del rest["index"]
    return rest


def to_chat(response: LMResponse) -> Any:
    """The LiteLLM object a response stands for."""
    from litellm.types.utils import ModelResponse, Usage

    data = dict(response.provider_data or {})
    outputs = response.outputs if data.pop("choices", None) is None else ()
    values: dict[str, Any] = {
        "id": response.response_id,
        "created": data.pop("created", 0),
        "model": response.model,
        "object": "chat.completion",
        "system_fingerprint": None,
        **data,
        "choices": [_choice(output, index) for index, output in enumerate(outputs)],
    }
    usage = chat_usage(response)
    if usage is not None:
        values["usage"] = _models.build(Usage, usage)
    return _models.build(ModelResponse, values)


def chat_usage(response: LMResponse) -> Mapping[str, Any] | None:
    """The counts of a response under LiteLLM's names."""
    usage = response.usage
    if usage is None:
        return None
    if usage.details is not None and "prompt_tokens" in usage.details:
        return usage.details
    counts = (usage.input_tokens or 0, usage.output_tokens or 0)
    total = usage.total_tokens if usage.total_tokens is not None else sum(counts)
    return {"prompt_tokens": counts[0], "completion_tokens": counts[1], "total_tokens": total}


def _choice(output: LMOutput, position: int) -> Any:
    from litellm.types.utils import ChoiceLogprobs, Choices

    data = dict(output.provider_data or {})
    message = _write_message(output, data.pop("message", {}))
    values = {"finish_reason": output.finish_reason, "index": position, **data, "message": message}
    if output.logprobs is not None:
        is_object = isinstance(output.logprobs, Mapping)
        values["logprobs"] = _models.build(ChoiceLogprobs, output.logprobs) if is_object else output.logprobs
    return _models.build(Choices, values)


def _write_message(output: LMOutput, rest: Mapping[str, Any]) -> Any:
    from litellm.types.utils import FunctionCall, Message

    values = _message.write_message(output.parts, rest)
    if values["tool_calls"]:
        values["tool_calls"] = [_tool_call(call) for call in values["tool_calls"]]
    if isinstance(values["function_call"], dict):
        values["function_call"] = _models.build(FunctionCall, values["function_call"])
    return _models.build(Message, values)


def _tool_call(call: Any) -> Any:
    """LiteLLM's class for function calls declares no field, so its function has to be built here."""
    from litellm.types.utils import ChatCompletionMessageCustomToolCall, ChatCompletionMessageToolCall, Function

    if not isinstance(call, dict):
        return call
    if isinstance(call.get("custom"), dict):
        return _models.build(ChatCompletionMessageCustomToolCall, call)
    function = call.get("function")
    built = _models.build(Function, function) if isinstance(function, dict) else function
    return _models.build(ChatCompletionMessageToolCall, {**call, "function": built})
