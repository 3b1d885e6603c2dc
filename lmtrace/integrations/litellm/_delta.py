"""The deltas of one streamed choice, joined into the message they build."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from lmtrace.integrations.litellm import _models

_JOINED: Final = ("content", "reasoning_content", "refusal")
_EXTENDED: Final = ("annotations", "images", "reasoning_items")


class Choice:
    """One candidate of a stream so far."""

    __slots__ = ("_audio", "_calls", "_fields", "_function_call", "_logprobs", "_texts", "_thinking", "finish_reason")

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[int, dict[str, Any]] = {}
        self._function_call: dict[str, Any] = {}
        self._thinking: list[dict[str, Any]] = []
        self._audio: list[dict[str, Any]] = []
        self._fields: dict[str, Any] = {}
        self._logprobs: Any = None

    def add(self, fields: Mapping[str, Any]) -> None:
        """One chunk's part of this choice."""
        if fields.get("finish_reason") is not None:
            self.finish_reason = fields["finish_reason"]
        if fields.get("logprobs") is not None:
            self._logprobs = joined(self._logprobs, _models.plain(fields["logprobs"]))
        for name, value in _models.entries_of(fields["delta"]):
            if value is not None:
                self._add_field(name, value)

    def _add_field(self, name: str, value: Any) -> None:
        if name in _JOINED and isinstance(value, str):
            self._texts.setdefault(name, []).append(value)
        elif name == "tool_calls":
            for call in _models.plain(value):
                self._add_call(call)
        elif name == "function_call":
            _join_texts(self._function_call, _models.plain(value))
        elif name == "thinking_blocks":
            self._thinking.extend(_models.plain(value))
        elif name == "audio":
            self._audio.append(_models.plain(value))
        elif name in _EXTENDED:
            self._fields.setdefault(name, []).extend(_models.plain(value))
        elif name == "provider_specific_fields":
            self._add_provider_fields(_models.plain(value))
        else:
            self._fields[name] = _models.plain(value)

    def _add_call(self, call: dict[str, Any]) -> None:
        """A piece of a tool call: the index says of which, the texts inside are continued, all else is set."""
        found = self._calls.setdefault(call.pop("index", 0), {})
        for name in ("function", "custom"):
            piece = call.pop(name, None)
            if piece:
                _join_texts(found.setdefault(name, {}), piece)
        found |= {name: value for name, value in call.items() if value is not None and value != ""}

    def _add_provider_fields(self, fields: Any) -> None:
        """LiteLLM streams Anthropic's citations one by one and gives them as a list of lists otherwise."""
        found = self._fields.setdefault("provider_specific_fields", {})
        for name, value in fields.items():
            if name == "citation" and value is not None:
                found.setdefault("citations", [[]])[0].append(value)
            elif name != "citation":
                found[name] = value

    def message(self) -> dict[str, Any]:
        """The message so far, as plain data."""
        message = dict(self._fields)
        for name, pieces in self._texts.items():
            message[name] = "".join(pieces)
        if self._calls:
            message["tool_calls"] = [{"type": "function", **self._calls[index]} for index in sorted(self._calls)]
        if self._function_call:
            message["function_call"] = self._function_call
        if not message.get("content") and (self._calls or self._function_call):
            message.pop("content", None)
        if self._thinking:
            message["thinking_blocks"] = _thinking_blocks(self._thinking)
        if self._audio:
            message["audio"] = _audio(self._audio)
        return message

    def logprobs(self) -> Any:
        return self._logprobs


def joined(before: Any, more: Any) -> Any:
    """Two pieces of log probabilities: lists are continued."""
    if not isinstance(before, dict) or not isinstance(more, dict):
        return more if more is not None else before
    lists = {
        name: [*before[name], *value] for name, value in more.items() if isinstance(value, list) and before.get(name)
    }
    return {**before, **more, **lists}


def _join_texts(found: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Continues the arguments; a name comes whole, once."""
    for name, value in piece.items():
        if name in ("arguments", "input") and isinstance(value, str):
            found[name] = (found.get(name) or "") + value
        elif value is not None and value != "":
            found[name] = value


def _thinking_blocks(pieces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whole blocks: thinking goes on until its signature arrives, redacted blocks come whole."""
    blocks: list[dict[str, Any]] = []
    is_open = False
    for piece in pieces:
        if piece.get("type") == "redacted_thinking":
            blocks.append(piece)
            is_open = False
            continue
        if not is_open:
            blocks.append({"type": "thinking", "thinking": ""})
        blocks[-1]["thinking"] += piece.get("thinking") or ""
        if piece.get("signature"):
            blocks[-1]["signature"] = piece["signature"]
        is_open = not piece.get("signature")
    return blocks


def _audio(pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """Speech arrives as base64 pieces of bytes, its transcript as text."""
    audio: dict[str, Any] = {}
    for piece in pieces:
        audio |= {name: value for name, value in piece.items() if value is not None}
    data = b"".join(base64.b64decode(piece["data"]) for piece in pieces if piece.get("data"))
    transcript = "".join(piece["transcript"] for piece in pieces if piece.get("transcript"))
    return {**audio, "data": base64.b64encode(data).decode(), "transcript": transcript}
