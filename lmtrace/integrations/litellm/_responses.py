"""The Responses interface: LiteLLM's `ResponsesAPIResponse` as an `LMResponse`, and back, lossless.

The output items stay as a skeleton in ``provider_data["output"]``, in their order, without the texts: each text, refusal,
summary and call becomes a part, in the same order, so filling the skeleton from the parts gives the items again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from lmtrace._data import (
    LMCitationPart,
    LMImagePart,
    LMPart,
    LMReasoningPart,
    LMRefusalPart,
    LMResponse,
    LMTextPart,
    LMToolCallPart,
)
from lmtrace._quick import new_output, new_response
from lmtrace.integrations.litellm import _items, _message, _models, _usage

_TAKEN: Final = ("id", "model", "object", "usage", "output")


def from_responses(obj: Any) -> LMResponse:
    """The normalised form of an answer of the Responses interface."""
    own = obj.__dict__
    usage = _usage.responses_usage_of(own.get("usage"))
    hidden = _models.hidden_params(obj)
    cost = _usage.cost_of(obj, hidden, usage)
    data = {name: _models.plain(value) for name, value in _given(obj) if name not in _TAKEN}
    items = _items.plain_items(obj, "output")
    parts = [part for item in items for part in _read_item(item)]
    if data.get("tools"):
        data["tools"] = _items.plain_items(obj, "tools")
    reason = _finish_reason(own.get("status"), data.get("incomplete_details"), items)
    output = new_output(parts=parts, finish_reason=reason, truncated=reason == "length")
    return new_response(
        model=own.get("model"),
        outputs=[output],
        usage=usage,
        cost=cost,
        cache_hit=_usage.is_cache_hit(hidden),
        response_id=own.get("id"),
        provider_data={**data, "output": items},
        metadata={"cost_source": _usage.COST_SOURCE} if cost is not None else None,
    )


def _given(obj: Any) -> Iterator[tuple[str, Any]]:
    """Everything but declared fields that are None: those dump as None whether set or not."""
    declared = type(obj).model_fields
    return ((name, value) for name, value in _models.entries_of(obj) if value is not None or name not in declared)


def _finish_reason(status: Any, incomplete: Any, items: list[Any]) -> str | None:
    """Chat's word for how an answer ended, as the GenAI conventions ask."""
    if isinstance(incomplete, dict) and incomplete.get("reason") is not None:
        reason = str(incomplete["reason"])
        return "length" if reason == "max_output_tokens" else reason
    if status == "completed":
        return "tool_calls" if any(_kind(item) in _CALLS for item in items) else "stop"
    return "error" if status == "failed" else status


_CALLS: Final = ("function_call", "custom_tool_call")


def _kind(item: Any) -> Any:
    return item.get("type") if isinstance(item, dict) else None


def _read_item(item: Any) -> Iterator[LMPart]:
    """Takes the texts out of one item and gives them as parts."""
    read = _READERS.get(_kind(item))
    return read(item) if read is not None else iter(())


def _read_message(item: dict[str, Any]) -> Iterator[LMPart]:
    for content in _dicts(item.get("content")):
        if isinstance(content.get("text"), str):
            yield LMTextPart(content.pop("text"))
            yield from _citations(content)
        elif isinstance(content.get("refusal"), str):
            yield LMRefusalPart(content.pop("refusal"))


def _citations(content: Mapping[str, Any]) -> Iterator[LMPart]:
    note = {_message.DERIVED: "output"}
    for item in _dicts(content.get("annotations")):
        yield LMCitationPart(item.get("title") or item.get("filename"), item.get("url"), item.get("quote"), note)


def _read_reasoning(item: dict[str, Any]) -> Iterator[LMPart]:
    for content in (*_dicts(item.get("summary")), *_dicts(item.get("content"))):
        if isinstance(content.get("text"), str):
            yield LMReasoningPart(content.pop("text"))


def _read_call(item: dict[str, Any]) -> Iterator[LMPart]:
    given = "input" if item["type"] == "custom_tool_call" else "arguments"
    if isinstance(item.get(given), str) and isinstance(item.get("name"), str):
        yield LMToolCallPart(item.pop("call_id", None), item.pop("name"), item.pop(given))


def _read_image(item: dict[str, Any]) -> Iterator[LMPart]:
    if isinstance(item.get("result"), str):
        yield LMImagePart(f"data:image/{item.get('output_format') or 'png'};base64,{item.pop('result')}")


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


_READERS: Final[dict[Any, Callable[[dict[str, Any]], Iterator[LMPart]]]] = {
    "message": _read_message,
    "reasoning": _read_reasoning,
    "function_call": _read_call,
    "custom_tool_call": _read_call,
    "image_generation_call": _read_image,
}


def to_responses(response: LMResponse) -> Any:
    """The LiteLLM object a response stands for."""
    from litellm.types.llms.openai import ResponseAPIUsage, ResponsesAPIResponse

    data = dict(response.provider_data or {})
    skeleton = data.pop("output", None)
    items = _items.new_items(response) if skeleton is None else _items.fill(skeleton, response.outputs[0].parts)
    values: dict[str, Any] = {
        "id": response.response_id,
        "created_at": data.pop("created_at", 0),
        "model": response.model,
        "object": "response",
        **data,
        "output": [_items.build_item(ResponsesAPIResponse, "output", item) for item in items],
    }
    if isinstance(values.get("tools"), list):
        values["tools"] = [_items.build_item(ResponsesAPIResponse, "tools", item) for item in values["tools"]]
    usage = _items.usage_values(response)
    if usage is not None:
        values["usage"] = _models.build(ResponseAPIUsage, usage)
    return _models.build(ResponsesAPIResponse, values)
