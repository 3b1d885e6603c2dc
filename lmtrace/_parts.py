"""The parts that messages are made of, in the JSON form of the GenAI conventions.

Parts come in OpenAI's, Anthropic's and the Responses API's shapes. One that has no counterpart keeps its fields in a
generic part of its own type; one that only claims to be a known type, without its fields, becomes ``other``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from lmtrace._content import dump

_MIME_MODALITY: Final = {"image": "image", "video": "video", "audio": "audio"}

_TYPED: Final = frozenset(
    {None, "text", "reasoning", "tool_call", "tool_call_response", "blob", "uri", "file"}
    | {"server_tool_call", "server_tool_call_response"}
)
"""Types whose parts have required fields; a foreign part must not claim to be one."""


def text_part(value: Any) -> dict[str, Any]:
    """A text; anything else as its JSON."""
    return {"type": "text", "content": as_text(value)}


def as_text(value: Any) -> str:
    """The value if it is a text, else its JSON; never its repr, which may hold anything."""
    return value if isinstance(value, str) else dump(value)


def tool_call(identifier: Any, function: Mapping[str, Any]) -> dict[str, Any]:
    """A call the model wants made."""
    part: dict[str, Any] = {"type": "tool_call", "name": as_text(function.get("name"))}
    if isinstance(identifier, str):
        part["id"] = identifier
    if function.get("arguments") is not None:
        part["arguments"] = _parsed(function["arguments"])
    return part


def tool_response(identifier: Any, content: Any) -> dict[str, Any]:
    """What a tool answered to the call of that id."""
    part: dict[str, Any] = {"type": "tool_call_response", "response": content}
    if isinstance(identifier, str):
        part["id"] = identifier
    return part


def _parsed(arguments: Any) -> Any:
    """The arguments as the object they are; models send invalid JSON too, and that stays text."""
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def content_part(part: Any) -> dict[str, Any]:
    """One part of a message's content, in OpenAI's, Anthropic's or the Responses API's shape."""
    if not isinstance(part, Mapping):
        return text_part(part)
    kind = part["type"] if isinstance(part.get("type"), str) else None
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
    if kind == "tool_use":
        return tool_call(part.get("id"), {"name": part.get("name"), "arguments": part.get("input")})
    if kind == "tool_result":
        return tool_response(part.get("tool_use_id"), part.get("content"))
    if kind == "thinking" and isinstance(part.get("thinking"), str):
        return {"type": "reasoning", "content": part["thinking"]}
    return {**part, "type": str(kind) if kind not in _TYPED else "other"}


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


def output_part(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part of an answer (`LMPart.to_wire`)."""
    kind = part["type"]
    if kind == "text":
        return {"type": "text", "content": part["text"]}
    if kind == "reasoning":
        return {"type": "reasoning", "content": part.get("text") or ""}
    if kind == "tool_call":
        return tool_call(part.get("id"), part)
    if kind == "image":
        return _media(part.get("url"), "image")
    if kind == "audio" and part.get("data"):
        return _blob(part["data"], "", "audio")
    if kind == "refusal":
        return {"type": "refusal", "content": part["text"]}
    return {**part, "type": kind}
