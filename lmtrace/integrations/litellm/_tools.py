"""Tool calls of a chat message: function calls, custom (free text) calls and the old single ``function_call``.

Arguments stay the text the model wrote, valid JSON or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmtrace._data import LMPart, LMToolCallPart


def read_tool_calls(calls: Any) -> list[LMPart]:
    """Parts for a list of plain tool calls; nothing when one of them is of a shape nobody knows."""
    parts = [_read_call(call) for call in calls]
    return [] if None in parts else [part for part in parts if part is not None]


def _read_call(call: Any) -> LMToolCallPart | None:
    if not isinstance(call, dict):
        return None
    if isinstance(call.get("custom"), dict):
        return _read_custom(call)
    function = call.get("function")
    if not isinstance(function, dict) or "arguments" not in function:
        return None
    rest = {name: value for name, value in call.items() if name not in ("id", "function") or value is None}
    if rest.get("type") == "function":
        del rest["type"]
    more = {name: value for name, value in function.items() if name not in ("name", "arguments")}
    if more:
        rest["function"] = more
    return LMToolCallPart(call.get("id"), function.get("name"), function["arguments"], rest or None)


def _read_custom(call: Mapping[str, Any]) -> LMToolCallPart:
    custom = call["custom"]
    rest = {name: value for name, value in call.items() if name not in ("id", "custom") or value is None}
    rest["custom"] = {name: value for name, value in custom.items() if name not in ("name", "input") or value is None}
    return LMToolCallPart(call.get("id"), custom.get("name"), custom.get("input"), rest)


def read_function_call(call: Any) -> list[LMPart]:
    """The part for the ``function_call`` of early OpenAI models."""
    if not isinstance(call, dict):
        return []
    more = {name: value for name, value in call.items() if name not in ("name", "arguments") or value is None}
    return [LMToolCallPart(None, call.get("name"), call.get("arguments"), {"function_call": more})]


def write_tool_calls(parts: list[LMToolCallPart], values: dict[str, Any]) -> None:
    """Puts the calls back into the fields of a message."""
    for part in parts:
        data = part.provider_data or {}
        if "function_call" in data:
            values["function_call"] = {**data["function_call"], **_given(name=part.name, arguments=part.arguments)}
        else:
            calls = values.get("tool_calls")
            values["tool_calls"] = [*(calls or ()), _write_call(part, data)]


def _write_call(part: LMToolCallPart, data: Mapping[str, Any]) -> dict[str, Any]:
    rest = {"id": part.id, **data} if part.id is not None else dict(data)
    if "custom" in data:
        return {**rest, "custom": {**data["custom"], **_given(name=part.name, input=part.arguments)}}
    function = {"name": part.name, "arguments": part.arguments, **data.get("function", {})}
    return {"type": "function", **rest, "function": function}


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
