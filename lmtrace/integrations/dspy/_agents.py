"""What is particular to agents and the tools they call: why they stopped, and what they may call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from lmtrace import _semconv as names

_SENTINELS: Final = frozenset({"finish", "submit"})
"""Tools that an agent calls to say that it is done."""


def finish_reasons(result: Any) -> dict[str, Any]:
    """Why an agent stopped: ``stop`` if it said it was done, ``error`` if it was made to; nothing where it does not tell."""
    reason = getattr(result, "termination_reason", None)  # ReActV2
    if reason is None:
        trajectory = getattr(result, "trajectory", None)
        reason = _last_tool(trajectory) if isinstance(trajectory, Mapping) else None
    if not isinstance(reason, str):
        return {}
    return {names.RESPONSE_FINISH_REASONS: ("stop" if reason in _SENTINELS else "error",)}


def _last_tool(trajectory: Mapping[Any, Any]) -> Any:
    used = [value for key, value in trajectory.items() if str(key).startswith("tool_name")]
    return used[-1] if used else None


def options(agent: Any, name: str) -> dict[str, Any]:
    """How the step of an agent shows what it was asked, answered and may call, and that all inside is its work."""
    return {
        "content_names": (names.INPUT_MESSAGES, names.OUTPUT_MESSAGES),
        "content": lambda: definitions(agent),
        "hands_down": {names.AGENT_NAME: name},
    }


def definitions(agent: Any) -> dict[str, Any]:
    """The tools an agent may call, in the form of the conventions; called where content is wanted."""
    tools = getattr(agent, "tools", None)
    listed: Iterable[Any] = tools.values() if isinstance(tools, Mapping) else tools or ()
    made = [_definition(tool) for tool in listed if getattr(tool, "name", None) not in {None, *_SENTINELS}]
    return {names.TOOL_DEFINITIONS: made} if made else {}


def _definition(tool: Any) -> dict[str, Any]:
    made = {"type": "function", "name": tool.name, "description": getattr(tool, "desc", None)}
    arguments = getattr(tool, "args", None)
    if isinstance(arguments, Mapping):
        made["parameters"] = {"type": "object", "properties": dict(arguments)}
    return {name: value for name, value in made.items() if value is not None}


def description(tool: Any) -> dict[str, Any]:
    """What a tool says of itself; called where content is wanted, because it is part of prompts."""
    text = getattr(tool, "desc", None)
    return {names.TOOL_DESCRIPTION: text} if isinstance(text, str) and text else {}
