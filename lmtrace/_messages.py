"""Messages and answers in the JSON form of the GenAI conventions.

OpenAI-shaped messages (what LiteLLM and DSPy use) become ``{role, parts}``, answers ``{role, parts, finish_reason}``; a
system message inside the list stays there, as the conventions ask. Whatever has no part of its own keeps its fields in
a generic part, so nothing here raises on odd messages and nothing is silently dropped.

On spans the form is one JSON text: backends explode structured values into columns or lose them. A text is cut at
`CONTENT_LIMIT` bytes, part by part, so that it stays valid JSON with the structure whole; Honeycomb refuses fields
over 65,535 bytes, and the SDK's own limit would cut in the middle of the JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from lmtrace import _semconv as names
from lmtrace._data import LMOutput
from lmtrace._entry import HistoryEntry

CONTENT_LIMIT: Final = 60_000
"""Bytes of one content attribute, encoded as UTF-8."""

_FINISH: Final = {
    "tool_calls": "tool_call",
    "function_call": "tool_call",
    "max_tokens": "length",
    "end_turn": "stop",
    "eos": "stop",
    None: "error",
}
"""Finish reasons by the conventions' names."""

_MIME_MODALITY: Final = {"image": "image", "video": "video", "audio": "audio"}


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
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        messages = [messages]
    return [_message(message) for message in messages]


def output_messages(outputs: Sequence[LMOutput]) -> list[dict[str, Any]]:
    """The candidates of an answer, one message each."""
    return [
        {
            "role": "assistant",
            "parts": [_output_part(part.to_wire()) for part in output.parts],
            "finish_reason": _FINISH.get(output.finish_reason, output.finish_reason),
        }
        for output in outputs
    ]


def system_instructions(instructions: Any) -> list[dict[str, Any]]:
    """Instructions that were sent beside the messages, as the Responses API does."""
    return [] if instructions is None else [_text_part(instructions)]


def tool_definitions(tools: Any) -> list[dict[str, Any]]:
    """The tools offered to the model: type, name, description and parameters."""
    return [_tool(tool) for tool in tools] if isinstance(tools, (list, tuple)) else []


def encode(value: Any, limit: int = CONTENT_LIMIT) -> tuple[str, bool]:
    """The value as JSON text of at most `limit` bytes, and whether it had to be cut.

    Long texts inside are cut first, the longest most, each ending in a marker with the number of characters left out.
    If that is not enough, items of the outermost list are left out from the middle, and a generic item says how many.
    """
    text = _dump(value)
    if len(text) <= limit // 4 or _size(text) <= limit:
        return text, False
    for allowed in _CUTS:
        text = _dump(_cut(value, allowed))
        if _size(text) <= limit:
            return text, True
    return _dump_ends(_cut(value, _CUTS[-1]), limit), True


_CUTS: Final = (16_384, 4_096, 1_024, 256, 64)
"""Characters a text inside may keep, tried in turn."""


def _dump(value: Any) -> str:
    try:
        return _dump_fast(value)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(_plain(value, 0), ensure_ascii=True)


def _dump_fast(value: Any) -> str:
    import orjson

    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def _plain(value: Any, depth: int) -> Any:
    """The value with everything JSON cannot hold turned into text; deep nesting too."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return value if abs(value) < _HUGE else str(value)  # NaN and infinities compare false
    if isinstance(value, Mapping) and depth < _DEPTH:
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)) and depth < _DEPTH:
        return [_plain(item, depth + 1) for item in value]
    return _described(value)


_HUGE: Final = 2**63
_DEPTH: Final = 40


def _described(value: Any) -> str:
    """A text for a value JSON has no form for. Its class, not its repr, which may hold anything, credentials included."""
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _cut(value: Any, allowed: int) -> Any:
    if isinstance(value, str):
        left_out = len(value) - allowed
        return f"{value[:allowed]}… [{left_out} characters cut]" if left_out > 0 else value
    if isinstance(value, Mapping):
        return {key: _cut(item, allowed) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cut(item, allowed) for item in value]
    return value


def _dump_ends(items: Any, limit: int) -> str:
    """The first and the last items of a list that fit; what stands at the end of a conversation matters most."""
    if not isinstance(items, list):
        return _dump(_omitted(1)[0])
    sizes = [_size(_dump(item)) + 1 for item in items]
    budget = limit - 200  # brackets and the marker
    head, tail = 0, len(items)
    if sizes and sizes[0] <= budget // 4:
        head, budget = 1, budget - sizes[0]
    while tail > head and sizes[tail - 1] <= budget:
        tail -= 1
        budget -= sizes[tail]
    return _dump([*items[:head], *_omitted(tail - head), *items[tail:]])


def _omitted(count: int) -> list[dict[str, Any]]:
    """The marker for items left out, in the form of a message, a part and a tool alike."""
    note = f"[{count} items cut]"
    return [{"type": "truncated", "name": note, "role": "truncated", "parts": [], "finish_reason": "truncated"}]


def _message(message: Any) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        message = _object_fields(message)
    if not isinstance(message, Mapping):
        return {"role": "user", "parts": [_text_part(message)]}
    if "role" not in message and "type" in message:
        return _item(message)
    role = str(message.get("role", "user"))
    result: dict[str, Any] = {"role": role, "parts": _message_parts(role, message)}
    if isinstance(message.get("name"), str):
        result["name"] = message["name"]
    return result


def _object_fields(value: Any) -> Any:
    """The fields of a message object, such as LiteLLM's `Message`; anything else as it is."""
    dump = getattr(value, "model_dump", None)
    try:
        return dump(exclude_none=True) if callable(dump) and not isinstance(value, type) else value
    except Exception:  # a foreign object's method
        return value


def _item(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item of the Responses API that is not a message: a function call, its output, reasoning."""
    kind = item["type"]
    if kind == "function_call":
        return {"role": "assistant", "parts": [_tool_call(item.get("call_id"), item)]}
    if kind == "function_call_output":
        return {"role": "tool", "parts": [_tool_response(item.get("call_id"), item.get("output"))]}
    if kind == "reasoning":
        return {"role": "assistant", "parts": [_reasoning(item)]}
    return {"role": "user", "parts": [_content_part(item)]}


def _message_parts(role: str, message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if role in {"tool", "function"}:
        return [_tool_response(message.get("tool_call_id"), content)]
    parts: list[dict[str, Any]] = []
    if isinstance(message.get("reasoning_content"), str):
        parts.append({"type": "reasoning", "content": message["reasoning_content"]})
    if isinstance(content, (list, tuple)):
        parts += [_content_part(part) for part in content]
    elif content is not None:
        parts.append(_text_part(content))
    calls = message.get("tool_calls")
    if isinstance(calls, (list, tuple)):
        parts += [_called(call) for call in calls]
    return parts


def _text_part(value: Any) -> dict[str, Any]:
    return {"type": "text", "content": value if isinstance(value, str) else _dump(value)}


def _called(call: Any) -> dict[str, Any]:
    call = call if isinstance(call, Mapping) else _object_fields(call)
    if not isinstance(call, Mapping):
        return _text_part(call)
    function = call.get("function")
    return _tool_call(call.get("id"), function if isinstance(function, Mapping) else call)


def _tool_call(identifier: Any, function: Mapping[str, Any]) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "tool_call", "name": str(function.get("name"))}
    if isinstance(identifier, str):
        part["id"] = identifier
    if function.get("arguments") is not None:
        part["arguments"] = _parsed(function["arguments"])
    return part


def _tool_response(identifier: Any, content: Any) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "tool_call_response", "response": content}
    if isinstance(identifier, str):
        part["id"] = identifier
    return part


def _reasoning(item: Mapping[str, Any]) -> dict[str, Any]:
    summary = item.get("summary") or item.get("content") or ()
    texts = (
        [part.get("text") for part in summary if isinstance(part, Mapping)]
        if isinstance(summary, (list, tuple))
        else []
    )
    return {"type": "reasoning", "content": "\n".join(text for text in texts if isinstance(text, str))}


def _parsed(arguments: Any) -> Any:
    """The arguments as the object they are; models send invalid JSON too, and that stays text."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _content_part(part: Any) -> dict[str, Any]:
    """One part of a message's content, in OpenAI's, Anthropic's or the Responses API's shape."""
    if not isinstance(part, Mapping):
        return _text_part(part)
    kind = part.get("type")
    if isinstance(part.get("text"), str):
        return {"type": "text", "content": part["text"]}
    if kind in {"image_url", "input_image"}:
        return _media(part.get("image_url"), "image")
    if kind in {"video_url", "audio_url"}:
        return _media(part.get(kind), kind.removesuffix("_url"))
    if kind == "input_audio":
        return _audio(part.get("input_audio"))
    if kind in {"file", "input_file"}:
        return _file(part.get("file", part))
    if kind == "thinking" and isinstance(part.get("thinking"), str):
        return {"type": "reasoning", "content": part["thinking"]}
    return {**part, "type": str(kind) if kind not in _TYPED else "other"}


_TYPED: Final = frozenset(
    {None, "text", "reasoning", "tool_call", "tool_call_response", "blob", "uri", "file", "server_tool_call"}
)
"""Types whose parts have required fields; a foreign part must not claim to be one."""


def _media(address: Any, modality: str) -> dict[str, Any]:
    """An image or the like by its address; a ``data:`` address is a blob."""
    if isinstance(address, Mapping):
        address = address.get("url")
    if not isinstance(address, str):
        return {"type": "other", "modality": modality}
    if not address.startswith("data:"):
        return {"type": "uri", "modality": modality, "uri": address}
    head, _, content = address.partition(",")
    mime = head.removeprefix("data:").split(";")[0]
    return _blob(content, mime, _MIME_MODALITY.get(mime.partition("/")[0], modality))


def _blob(content: str, mime: str, modality: str) -> dict[str, Any]:
    part = {"type": "blob", "modality": modality, "content": content}
    return {**part, "mime_type": mime} if mime else part


def _audio(audio: Any) -> dict[str, Any]:
    if not isinstance(audio, Mapping) or not isinstance(audio.get("data"), str):
        return {"type": "other", "modality": "audio"}
    return _blob(audio["data"], f"audio/{audio.get('format', 'wav')}", "audio")


def _file(file: Any) -> dict[str, Any]:
    if not isinstance(file, Mapping):
        return {"type": "other", "modality": "document"}
    if isinstance(file.get("file_id"), str):
        return {"type": "file", "modality": "document", "file_id": file["file_id"]}
    return _media(file.get("file_data", file.get("file_url")), "document")


def _output_part(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part of an answer (`LMPart.to_wire`)."""
    kind = part["type"]
    if kind == "text":
        return {"type": "text", "content": part["text"]}
    if kind == "reasoning":
        return {"type": "reasoning", "content": part.get("text") or ""}
    if kind == "tool_call":
        return _tool_call(part.get("id"), part)
    if kind == "image":
        return _media(part.get("url"), "image")
    if kind == "audio" and part.get("data"):
        return _blob(part["data"], "", "audio")
    if kind == "refusal":
        return {"type": "refusal", "content": part["text"]}
    return {**part, "type": kind}


def _tool(tool: Any) -> dict[str, Any]:
    if not isinstance(tool, Mapping):
        return {"type": "other", "name": getattr(tool, "__name__", type(tool).__name__)}
    function = tool.get("function")
    described = function if isinstance(function, Mapping) else tool
    definition = {"type": str(tool.get("type", "function")), "name": str(described.get("name", tool.get("type")))}
    optional = {key: described[key] for key in ("description", "parameters") if described.get(key) is not None}
    return {**definition, **optional}
