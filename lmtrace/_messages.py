"""Messages and answers in the JSON form of the GenAI conventions.

OpenAI-shaped messages (what LiteLLM and DSPy use) become ``{role, parts}``, answers ``{role, parts, finish_reason}``; a
system message inside the list stays there, as the conventions ask. Whatever has no part of its own keeps its fields in
a generic part, so nothing here raises on odd messages and nothing is silently dropped.

On spans the form is one JSON text (`lmtrace._content`): backends explode structured values into columns or lose them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from lmtrace import _semconv as names
from lmtrace._content import CONTENT_LIMIT, encode
from lmtrace._data import LMOutput
from lmtrace._entry import HistoryEntry
from lmtrace._parts import as_text, content_part, output_part, text_part, tool_call, tool_response

_FINISH: Final = {
    "tool_calls": "tool_call",
    "function_call": "tool_call",
    "max_tokens": "length",
    "end_turn": "stop",
    "eos": "stop",
}
"""Finish reasons by the conventions' names."""


def content_attributes(entry: HistoryEntry, limit: int = CONTENT_LIMIT) -> dict[str, Any]:
    """The content attributes of a call's span, each a JSON text of at most `limit` bytes."""
    attributes: dict[str, Any] = {}
    for name, value in content_values(entry).items():
        text, cut = encode(value, limit)
        attributes[name] = text
        if cut:
            attributes[names.CONTENT_TRUNCATED] = True
    return attributes


def content_values(entry: HistoryEntry) -> dict[str, Any]:
    """The content of a call as the structured values events carry."""
    request = entry.request
    values: dict[str, Any] = {names.INPUT_MESSAGES: input_messages(request.messages, request.prompt)}
    instructions = system_instructions(request.kwargs.get("instructions"))
    if instructions:
        values[names.SYSTEM_INSTRUCTIONS] = instructions
    tools = tool_definitions(request.kwargs.get("tools"))
    if tools:
        values[names.TOOL_DEFINITIONS] = tools
    if entry.response is not None and request.model_type != "embedding":
        values[names.OUTPUT_MESSAGES] = output_messages(entry.response.outputs)
    return values


def input_messages(messages: Any, prompt: str | None = None) -> list[dict[str, Any]]:
    """What the model was given: the messages, or the bare prompt or embedding inputs as user messages."""
    if messages is None:
        messages = [] if prompt is None else prompt
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable) or _is_tokens(messages):
        messages = [messages]
    return [_message(message) for message in messages]


def output_messages(outputs: Sequence[LMOutput]) -> list[dict[str, Any]]:
    """The candidates of an answer, one message each."""
    return [
        {
            "role": "assistant",
            "parts": [output_part(part.to_wire()) for part in output.parts],
            "finish_reason": _finish(output.finish_reason),
        }
        for output in outputs
    ]


def _finish(reason: str | None) -> str:
    return "error" if reason is None else _FINISH.get(str(reason), str(reason))


def system_instructions(instructions: Any) -> list[dict[str, Any]]:
    """Instructions that were sent beside the messages, as the Responses API does."""
    return [] if instructions is None else [text_part(instructions)]


def tool_definitions(tools: Any) -> list[dict[str, Any]]:
    """The tools offered to the model: type, name, description and parameters."""
    return [_tool(tool) for tool in tools] if isinstance(tools, (list, tuple)) else []


def _is_tokens(inputs: Any) -> bool:
    """Whether the input of an embeddings call is one text, given as token numbers."""
    return isinstance(inputs, (list, tuple)) and bool(inputs) and isinstance(inputs[0], int)


def _message(message: Any) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        message = _object_fields(message)
    if not isinstance(message, Mapping):
        return {"role": "user", "parts": [text_part(message)]}
    if "role" not in message and "type" in message:
        return _item(message)
    role = message["role"] if isinstance(message.get("role"), str) else "user"
    result: dict[str, Any] = {"role": role, "parts": _message_parts(role, message)}
    if isinstance(message.get("name"), str):
        result["name"] = message["name"]
    return result


def _object_fields(value: Any) -> Any:
    """The fields of a message object, such as LiteLLM's `Message`; anything else as it is."""
    try:  # asked of the type: a mock has every method, and remembers who called it
        return value.model_dump(exclude_none=True) if hasattr(type(value), "model_dump") else value
    except Exception:  # a foreign object's method
        return value


def _item(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item of the Responses API that is not a message: a function call, its output, reasoning."""
    kind = item["type"]
    if kind == "function_call":
        return {"role": "assistant", "parts": [tool_call(item.get("call_id"), item)]}
    if kind == "function_call_output":
        return {"role": "tool", "parts": [tool_response(item.get("call_id"), item.get("output"))]}
    if kind == "reasoning":
        return {"role": "assistant", "parts": [_reasoning(item)]}
    return {"role": "user", "parts": [content_part(item)]}


def _message_parts(role: str, message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if role in {"tool", "function"}:
        return [tool_response(message.get("tool_call_id"), content)]
    parts: list[dict[str, Any]] = []
    if isinstance(message.get("reasoning_content"), str):
        parts.append({"type": "reasoning", "content": message["reasoning_content"]})
    if isinstance(content, (list, tuple)):
        parts += [content_part(part) for part in content]
    elif content is not None:
        parts.append(text_part(content))
    calls = message.get("tool_calls")
    if isinstance(calls, (list, tuple)):
        parts += [_called(call) for call in calls]
    return parts


def _called(call: Any) -> dict[str, Any]:
    call = call if isinstance(call, Mapping) else _object_fields(call)
    if not isinstance(call, Mapping):
        return text_part(call)
    function = call.get("function")
    return tool_call(call.get("id"), function if isinstance(function, Mapping) else call)


def _reasoning(item: Mapping[str, Any]) -> dict[str, Any]:
    summary = item.get("summary") or item.get("content") or ()
    texts = (
        [part.get("text") for part in summary if isinstance(part, Mapping)]
        if isinstance(summary, (list, tuple))
        else []
    )
    return {"type": "reasoning", "content": "\n".join(text for text in texts if isinstance(text, str))}


def _tool(tool: Any) -> dict[str, Any]:
    if not isinstance(tool, Mapping):
        return {"type": "other", "name": getattr(tool, "__name__", type(tool).__name__)}
    function = tool.get("function")
    described = function if isinstance(function, Mapping) else tool
    kind = as_text(tool.get("type", "function"))
    definition = {"type": kind, "name": as_text(described.get("name", kind))}
    optional = {key: described[key] for key in ("description", "parameters") if described.get(key) is not None}
    return {**definition, **optional}
