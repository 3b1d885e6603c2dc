"""The items of a Responses answer: to plain skeletons with a note of their class, and back to objects with their texts.

Providers' items arrive as OpenAI's classes, as LiteLLM's own or as dictionaries, and dump differently; a skeleton notes
the class only where the item's ``type`` does not tell it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

from lmtrace._data import LMPart, LMResponse
from lmtrace.integrations.litellm import _message, _models

_CLASS: Final = "$class"


def plain_items(obj: Any, field: str) -> list[Any]:
    """The items in one field of a response as plain data of their own."""
    value = obj.__dict__.get(field) or []
    return [_plain_item(type(obj), field, item) for item in value]


def _plain_item(owner: Any, field: str, item: Any) -> Any:
    found = _models.plain(item)
    if not isinstance(found, dict):
        return found
    expected = _class_of(owner, field, found.get("type"))
    actual = type(item).__name__
    if actual != (expected.__name__ if expected is not None else "dict"):
        found[_CLASS] = actual
    return found


def build_item(owner: Any, field: str, item: Any) -> Any:
    """An item of the class its type or its note names; a dictionary stays one when neither does."""
    if not isinstance(item, dict):
        return item
    values = {name: value for name, value in item.items() if name != _CLASS}
    if _CLASS in item:
        cls = next((cls for cls in _classes(owner, field) if cls.__name__ == item[_CLASS]), None)
    else:
        cls = _class_of(owner, field, values.get("type"))
    return values if cls is None else _models.build(cls, values)


@cache
def _class_of(owner: Any, field: str, kind: Any) -> Any:
    return next((cls for cls in _classes(owner, field) if kind in _models.literal_types(cls)), None)


@cache
def _classes(owner: Any, field: str) -> tuple[Any, ...]:
    return _models.classes_in(owner.model_fields[field].annotation)


def fill(skeleton: Sequence[Any], parts: Iterable[LMPart]) -> list[Any]:
    """The items of a skeleton with the texts of `parts` in their places."""
    given: Iterator[Any] = (part for part in parts if _message.DERIVED not in (part.provider_data or {}))
    items = copy.deepcopy(list(skeleton))
    for item in items:
        if isinstance(item, dict):
            _fill_item(item, given)
    return items


def _fill_item(item: dict[str, Any], parts: Iterator[Any]) -> None:
    kind = item.get("type")
    if kind == "message":
        _fill_contents(item.get("content"), parts)
    elif kind == "reasoning":
        _fill_contents(item.get("summary"), parts)
        _fill_contents(item.get("content"), parts)
    elif kind in ("function_call", "custom_tool_call") and "name" not in item:
        part = next(parts)
        item |= {"call_id": part.id, "name": part.name, _arguments(kind): part.arguments}
    elif kind == "image_generation_call" and "result" not in item:
        item["result"] = next(parts).url.partition(",")[2]


def _arguments(kind: str) -> str:
    return "input" if kind == "custom_tool_call" else "arguments"


_TEXT_KINDS: Final = ("output_text", "text", "summary_text", "reasoning_text")


def _fill_contents(contents: Any, parts: Iterator[Any]) -> None:
    for content in contents or ():
        if not isinstance(content, dict):
            continue
        name = "refusal" if content.get("type") == "refusal" else "text"
        if name not in content and content.get("type") in (*_TEXT_KINDS, "refusal"):
            content[name] = next(parts).text


def new_items(response: LMResponse) -> list[dict[str, Any]]:
    """Items for a response that did not come through this interface."""
    parts = response.outputs[0].parts
    texts = [part for part in parts if part.type in ("text", "refusal")]
    items = [_new_reasoning(part, index) for index, part in enumerate(parts) if part.type == "reasoning"]
    if texts:
        items.append(_new_message(texts, response.response_id))
    items.extend(_new_call(part) for part in parts if part.type == "tool_call")
    return items


def _new_reasoning(part: Any, index: int) -> dict[str, Any]:
    return {"type": "reasoning", "id": f"rs_{index}", "summary": [{"type": "summary_text", "text": part.text or ""}]}


def _new_message(parts: Iterable[Any], response_id: str | None) -> dict[str, Any]:
    content = [
        {"type": "refusal", "refusal": part.text}
        if part.type == "refusal"
        else {"type": "output_text", "text": part.text, "annotations": []}
        for part in parts
    ]
    return {
        "type": "message",
        "id": f"msg_{response_id}",
        "status": "completed",
        "role": "assistant",
        "content": content,
    }


def _new_call(part: Any) -> dict[str, Any]:
    call = {"type": "function_call", "id": part.id, "call_id": part.id, "name": part.name, "arguments": part.arguments}
    return {**call, "status": "completed"}


def usage_values(response: LMResponse) -> Mapping[str, Any] | None:
    """The counts of a response under the names of this interface."""
    usage = response.usage
    if usage is None:
        return None
    if usage.details is not None and "input_tokens" in usage.details:
        return usage.details
    counts = (usage.input_tokens or 0, usage.output_tokens or 0)
    total = usage.total_tokens if usage.total_tokens is not None else sum(counts)
    return {"input_tokens": counts[0], "output_tokens": counts[1], "total_tokens": total}
