"""From a request to the arguments of the LiteLLM function that answers it.

Chat and embeddings pass as they are. Text completions and the Responses interface get their messages converted the way
`dspy.LM` does, so that a program may change its model type and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lmtrace._data import LMRequest

_OURS: Final = frozenset({"rollout_id", "cache"})
"""Parameters that are lmtrace's own and never reach a provider."""

_OUR_RETRIES: Final[Mapping[str, Any]] = {"num_retries": 0, "max_retries": 0}
"""Retries are a backend of ours; LiteLLM and the clients it uses try once."""

_END_OF_PROMPT: Final = "BEGIN RESPONSE:"
"""DSPy's last line of a text prompt."""


def arguments(request: LMRequest, secrets: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of the call."""
    given = {name: value for name, value in {**request.kwargs, **secrets}.items() if name not in _OURS}
    given = {**_OUR_RETRIES, **given, "model": request.model}
    return _FORMS[request.model_type](request, given)


def _chat(request: LMRequest, given: dict[str, Any]) -> dict[str, Any]:
    return {**given, "messages": _messages(request)}


def _messages(request: LMRequest) -> Any:
    return request.messages if request.messages is not None else [{"role": "user", "content": request.prompt}]


def _embedding(request: LMRequest, given: dict[str, Any]) -> dict[str, Any]:
    return {**given, "input": request.messages if request.messages is not None else request.prompt}


def _text(request: LMRequest, given: dict[str, Any]) -> dict[str, Any]:
    """Text completion by an OpenAI-compatible server, whoever runs it: address and key may stand in the environment."""
    provider, slash, name = request.model.partition("/")
    if not slash:
        provider, name = "openai", request.model
    found = {setting: _setting(provider, setting) for setting in ("api_key", "api_base") if given.get(setting) is None}
    texts = [_text_of(message.get("content")) for message in _messages(request)]
    return {
        **given,
        **{setting: value for setting, value in found.items() if value is not None},
        "model": f"text-completion-openai/{name}",
        "prompt": "\n\n".join([*texts, _END_OF_PROMPT]),
    }


def _setting(provider: str, name: str) -> str | None:
    variable = f"{provider}_{name}"
    return os.environ.get(f"{provider}_{name.upper()}") or os.environ.get(variable.upper())


def _text_of(content: Any) -> str:
    """The text of a message; of a list of parts, that of its text parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    return "\n".join(part["text"] for part in parts if isinstance(part, Mapping) and isinstance(part.get("text"), str))


_RENAMED: Final = {"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}


def _responses(request: LMRequest, given: dict[str, Any]) -> dict[str, Any]:
    named = {
        _RENAMED.get(name, name): value for name, value in given.items() if value is not None or name not in _RENAMED
    }
    if (effort := named.pop("reasoning_effort", None)) is not None:
        named["reasoning"] = {"effort": effort, "summary": "auto"}
    if (shape := named.pop("response_format", None)) is not None:
        named["text"] = {**(named.get("text") or {}), "format": _text_format(shape)}
    if isinstance(named.get("tools"), list):
        named["tools"] = [_flat_tool(tool) for tool in named["tools"]]
    if isinstance(named.get("tool_choice"), Mapping):
        named["tool_choice"] = _flat_tool(named["tool_choice"])
    return {**named, "input": [item for message in _messages(request) for item in _input_items(message)]}


def _text_format(shape: Any) -> Any:
    """A chat ``response_format`` (a class, too) as the ``text.format`` of the Responses interface."""
    if isinstance(shape, type):
        from litellm.llms.base_llm.base_utils import type_to_response_format_param

        shape = type_to_response_format_param(shape)
    if isinstance(shape, Mapping) and isinstance(shape.get("json_schema"), Mapping):
        return {"type": "json_schema", **shape["json_schema"]}
    return shape


def _flat_tool(tool: Any) -> Any:
    """Chat nests what the Responses interface has beside the type."""
    if isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping):
        return {"type": "function", **tool["function"]}
    return tool


def _input_items(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One chat message as input items: itself, and the tool calls and results that chat keeps inside messages."""
    role = message.get("role", "user")
    content = message.get("content")
    if role == "tool":
        yield {"type": "function_call_output", "call_id": message.get("tool_call_id"), "output": _text_of(content)}
        return
    kind = "output_text" if role == "assistant" else "input_text"
    if content is not None:
        yield {"role": role, "content": _contents(content, kind)}
    for call in message.get("tool_calls") or ():
        yield {"type": "function_call", "call_id": call.get("id"), **call.get("function", {})}


def _contents(content: Any, kind: str) -> list[Any]:
    if isinstance(content, list):
        return [_content(part, kind) for part in content]
    return [{"type": kind, "text": content}]


def _content(part: Any, kind: str) -> Any:
    """One part of a message; kinds that both interfaces have in common, or nobody knows, pass unchanged."""
    match part:
        case {"type": "text", "text": text}:
            return {"type": kind, "text": text}
        case {"type": "image_url", "image_url": {"url": url, **rest}}:
            return {"type": "input_image", "image_url": url, **rest}
        case {"type": "image_url", "image_url": str(url)}:
            return {"type": "input_image", "image_url": url}
        case {"type": "file", "file": {**fields}}:
            return {"type": "input_file", **fields}
        case _:
            return part


_FORMS: Final = {"chat": _chat, "text": _text, "responses": _responses, "embedding": _embedding}
