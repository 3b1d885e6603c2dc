"""The message of a chat candidate as parts, and back.

What has a part class becomes a part; everything else a provider sent with the message stays in the output's
``provider_data["message"]`` under its own name. The order of parts is fixed (reasoning, content, refusal, images, audio,
calls, citations), so the way back needs no notes about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from lmtrace._data import (
    LMAudioPart,
    LMCitationPart,
    LMImagePart,
    LMOtherPart,
    LMPart,
    LMReasoningPart,
    LMRefusalPart,
    LMTextPart,
)
from lmtrace._quick import new_text
from lmtrace.integrations.litellm import _models, _tools

_NULLS: Final = frozenset({"content", "tool_calls", "function_call"})
"""Fields that LiteLLM always sets, to None where there is nothing."""

DERIVED: Final = "derived_from"
"""Marks, in a part's provider data, a part that only repeats what the provider data of the output holds."""


def read_message(message: Any) -> tuple[list[LMPart], dict[str, Any]]:
    """A LiteLLM message as its parts and the rest."""
    own = message.__dict__
    content = own.get("content")
    if len(own) == 5 and type(content) is str and own.get("tool_calls") is None and not message.__pydantic_extra__:
        fields = own.get("provider_specific_fields")
        if (
            own.get("function_call") is None
            and (fields is None or fields == _NO_REFUSAL)
            and own["role"] == "assistant"
        ):
            return [new_text(content)], {"provider_specific_fields": fields} if fields else {}
    return _read_fields(_given(message))


_NO_REFUSAL: Final = {"refusal": None}


def _given(message: Any) -> dict[str, Any]:
    """The fields that say something, as plain data."""
    given = message.__pydantic_fields_set__
    entries = _models.entries_of(message)
    return {
        name: _models.plain(value)
        for name, value in entries
        if value is not None or (name in given and name not in _NULLS)
    }


def read_delta(delta: Mapping[str, Any]) -> tuple[list[LMPart], dict[str, Any]]:
    """The same for a message assembled from a stream, given as plain data."""
    return _read_fields({name: value for name, value in delta.items() if value is not None})


def _read_fields(rest: dict[str, Any]) -> tuple[list[LMPart], dict[str, Any]]:
    parts: list[LMPart] = []
    _take_reasoning(rest, parts)
    _take(rest, parts, "content", _content_parts)
    _take_refusal(rest, parts)
    _take(rest, parts, "images", _image_parts)
    _take(rest, parts, "audio", _audio_parts)
    _take(rest, parts, "function_call", _tools.read_function_call)
    _take(rest, parts, "tool_calls", _tools.read_tool_calls)
    _take(rest, parts, "annotations", _citation_parts)
    parts.extend(_provider_citations(rest))
    if rest.get("role") == "assistant":
        del rest["role"]
    return parts, rest


def _take(rest: dict[str, Any], parts: list[LMPart], name: str, read: Callable[[Any], list[LMPart]]) -> None:
    """Moves one field into parts; a field of another shape than expected stays where it is."""
    value = rest.get(name)
    if value is not None and (found := read(value)):
        parts.extend(found)
        del rest[name]


def _take_reasoning(rest: dict[str, Any], parts: list[LMPart]) -> None:
    """Reasoning text; one part for each thinking block where the blocks hold the same text."""
    text, blocks = rest.get("reasoning_content"), rest.get("thinking_blocks")
    if not isinstance(text, str):
        return
    del rest["reasoning_content"]
    if blocks and _block_text(blocks) == text:
        del rest["thinking_blocks"]
        parts.extend(_reasoning_part(block) for block in blocks)
    else:
        parts.append(LMReasoningPart(text))


def _block_text(blocks: Any) -> str | None:
    try:
        texts = [block["thinking"] for block in blocks if "thinking" in block]
        return "".join(texts) if all("type" in block for block in blocks) else None
    except (TypeError, KeyError):
        return None


def _reasoning_part(block: Mapping[str, Any]) -> LMReasoningPart:
    rest = {name: value for name, value in block.items() if name != "thinking"}
    return LMReasoningPart(block.get("thinking"), rest)


def _content_parts(content: Any) -> list[LMPart]:
    if isinstance(content, str):
        return [new_text(content)]
    if isinstance(content, list):
        return [_content_part(item) for item in content]
    return []


def _content_part(item: Any) -> LMPart:
    """One item of a content list; the item without its text stays beside the text."""
    if isinstance(item, dict) and isinstance(item.get("text"), str):
        return LMTextPart(item["text"], {"content": {name: value for name, value in item.items() if name != "text"}})
    return LMOtherPart({"content": item})


def _take_refusal(rest: dict[str, Any], parts: list[LMPart]) -> None:
    fields = rest.get("provider_specific_fields")
    if isinstance(fields, dict) and isinstance(fields.get("refusal"), str):
        parts.append(LMRefusalPart(fields["refusal"], {DERIVED: "provider_specific_fields"}))
    elif isinstance(rest.get("refusal"), str):
        parts.append(LMRefusalPart(rest.pop("refusal")))


def _image_parts(images: Any) -> list[LMPart]:
    if not all(isinstance(item, dict) and isinstance(item.get("image_url"), dict) for item in images):
        return []
    return [_image_part(item) for item in images]


def _image_part(item: dict[str, Any]) -> LMImagePart:
    address = item["image_url"]
    rest = {name: value for name, value in address.items() if name != "url"}
    return LMImagePart(address.get("url"), {**item, "image_url": rest})


def _audio_parts(audio: Any) -> list[LMPart]:
    if not isinstance(audio, dict):
        return []
    rest = {name: value for name, value in audio.items() if name not in ("data", "transcript")}
    return [LMAudioPart(audio.get("data"), audio.get("transcript"), rest)]


def _citation_parts(annotations: Any) -> list[LMPart]:
    if not all(isinstance(item, dict) for item in annotations):
        return []
    return [_citation_part(item) for item in annotations]


def _citation_part(item: dict[str, Any]) -> LMCitationPart:
    """An annotation; what names the source goes into the fields, its place in the text stays beside them."""
    cited = item.get("url_citation")
    if not isinstance(cited, dict):
        return LMCitationPart(provider_data=item)
    rest = {name: value for name, value in cited.items() if name not in ("title", "url") or value is None}
    return LMCitationPart(cited.get("title"), cited.get("url"), provider_data={**item, "url_citation": rest})


def _provider_citations(rest: Mapping[str, Any]) -> Iterable[LMPart]:
    """Anthropic's citations, which LiteLLM leaves among the provider's own fields."""
    fields = rest.get("provider_specific_fields")
    found = fields.get("citations") if isinstance(fields, dict) else None
    for group in found if isinstance(found, list) else ():
        for item in group if isinstance(group, list) else [group]:
            if isinstance(item, dict):
                title = item.get("document_title") or item.get("title")
                note = {DERIVED: "provider_specific_fields"}
                yield LMCitationPart(title, item.get("url"), item.get("cited_text"), note)


def write_message(parts: Iterable[LMPart], rest: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a message; the inverse of `read_message`."""
    values = {"role": "assistant", **dict.fromkeys(_NULLS), **rest}
    grouped = _grouped(parts)
    for kind, write in _WRITERS.items():
        if kind in grouped:
            write(grouped[kind], values)
    return values


def _grouped(parts: Iterable[LMPart]) -> dict[str, list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for part in parts:
        data = part.provider_data or {}
        if DERIVED not in data:
            grouped.setdefault("content" if "content" in data or part.type == "text" else part.type, []).append(part)
    return grouped


def _write_reasoning(parts: list[LMReasoningPart], values: dict[str, Any]) -> None:
    values["reasoning_content"] = "".join(part.text or "" for part in parts)
    blocks = [{**part.provider_data, **_text("thinking", part.text)} for part in parts if part.provider_data]
    if blocks:
        values["thinking_blocks"] = blocks


def _text(name: str, text: str | None) -> dict[str, str]:
    return {} if text is None else {name: text}


def _write_content(parts: list[Any], values: dict[str, Any]) -> None:
    if any(part.provider_data for part in parts):
        values["content"] = [_content_item(part) for part in parts]
    else:
        values["content"] = "".join(part.text for part in parts)


def _content_item(part: Any) -> Any:
    item = (part.provider_data or {}).get("content", {"type": "text"})
    return {**item, "text": part.text} if part.type == "text" else item


def _write_refusal(parts: list[LMRefusalPart], values: dict[str, Any]) -> None:
    values["refusal"] = "".join(part.text for part in parts)


def _write_images(parts: list[LMImagePart], values: dict[str, Any]) -> None:
    values["images"] = [_image_item(part) for part in parts]


def _image_item(part: LMImagePart) -> dict[str, Any]:
    item = dict(part.provider_data or {"type": "image_url"})
    return {**item, "image_url": {**item.get("image_url", {}), **_text("url", part.url)}}


def _write_audio(parts: list[LMAudioPart], values: dict[str, Any]) -> None:
    part = parts[0]
    values["audio"] = {**(part.provider_data or {}), **_text("data", part.data), **_text("transcript", part.transcript)}


def _write_citations(parts: list[LMCitationPart], values: dict[str, Any]) -> None:
    values["annotations"] = [_annotation(part) for part in parts]


def _annotation(part: LMCitationPart) -> dict[str, Any]:
    item = dict(part.provider_data or {"type": "url_citation", "url_citation": {}})
    if "url_citation" in item:
        item["url_citation"] = {**item["url_citation"], **_text("title", part.title), **_text("url", part.url)}
    return item


_WRITERS: Final[dict[str, Callable[[list[Any], dict[str, Any]], None]]] = {
    "reasoning": _write_reasoning,
    "content": _write_content,
    "refusal": _write_refusal,
    "image": _write_images,
    "audio": _write_audio,
    "tool_call": _tools.write_tool_calls,
    "citation": _write_citations,
}
