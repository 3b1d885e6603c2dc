"""OpenAI's Responses: items (reasoning, message, function calls) instead of choices, and a stream of named events."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lmtrace._data import LMUsage
from lmtrace.testing._provider import _openai
from lmtrace.testing._provider._answer import CREATED, Answer, Choice
from lmtrace.testing._provider._dialect import Dialect, sse
from lmtrace.testing._provider._openai_items import events as item_events
from lmtrace.testing._provider._openai_items import items
from lmtrace.testing._provider._reply import Failure
from lmtrace.testing._provider._request import Ask, insisted, spoken, text_of

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ECHOED = ("instructions", "max_output_tokens", "metadata", "previous_response_id", "reasoning", "temperature", "top_p")


def ask(body: Mapping[str, Any], path: Mapping[str, str]) -> Ask:
    """Read a request for a response; `instructions` count as a system message."""
    return Ask(
        model=body.get("model", "unknown"),
        messages=_messages(body),
        stream=bool(body.get("stream")),
        max_tokens=body.get("max_output_tokens"),
        logprobs="message.output_text.logprobs" in (body.get("include") or ()),
        schema=_schema((body.get("text") or {}).get("format")),
        tool=_tool(body),
    )


def _messages(body: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The spoken messages, and the results of tools, which are items without a role here."""
    given = body.get("input")
    instructions = text_of(body.get("instructions"))
    system = (("system", instructions),) if instructions else ()
    if not isinstance(given, list):
        return system + spoken(given)
    named = [{"role": "tool", "content": item.get("output")} if "output" in item else item for item in given]
    return system + spoken([item for item in named if "content" in item])


def _schema(text_format: Any) -> Mapping[str, Any] | None:
    match text_format:
        case {"type": "json_object"}:
            return {}
        case {"type": "json_schema", "schema": schema}:
            return dict(schema)
    return None


def _tool(body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    choice = body.get("tool_choice")
    functions = [tool for tool in body.get("tools") or () if tool.get("type") == "function"]
    return insisted(
        ((function.get("name", ""), function.get("parameters")) for function in functions),
        named=choice.get("name") if isinstance(choice, Mapping) else None,
        any_of=choice == "required",
    )


def body(answer: Answer) -> Mapping[str, Any]:
    """The whole answer in one body."""
    choice = answer.first
    reason = _INCOMPLETE.get(choice.finish_reason)
    return {
        **_head(answer),
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "output": items(answer, choice),
        "usage": usage(answer.usage) if answer.usage else None,
        **answer.extra,
    }


def _head(answer: Answer) -> dict[str, Any]:
    """What every mention of the response carries, the parameters that were asked for among it."""
    asked = answer.request.json
    defaults = {"metadata": {}, "temperature": 1.0, "top_p": 1.0, "reasoning": {"effort": None, "summary": None}}
    return {
        "id": answer.name("resp_"),
        "object": "response",
        "created_at": CREATED,
        "error": None,
        "model": answer.model,
        "parallel_tool_calls": True,
        "store": True,
        "text": asked.get("text") or {"format": {"type": "text"}},
        "tool_choice": asked.get("tool_choice") or "auto",
        "tools": asked.get("tools") or [],
        "truncation": "disabled",
        **{name: asked[name] if asked.get(name) is not None else defaults.get(name) for name in _ECHOED},
    }


def usage(counted: LMUsage) -> dict[str, Any]:
    """Token counts under the names of this endpoint."""
    return {
        "input_tokens": counted.input_tokens,
        "input_tokens_details": {
            "cached_tokens": counted.cache_read_tokens or 0,
            "cache_write_tokens": counted.cache_write_tokens or 0,
        },
        "output_tokens": counted.output_tokens,
        "output_tokens_details": {"reasoning_tokens": counted.reasoning_tokens or 0},
        "total_tokens": counted.total_tokens,
    }


def events(answer: Answer) -> Iterator[bytes]:
    """The answer as a stream of numbered events."""
    for number, event in enumerate(_events(answer, answer.first)):
        yield sse({**event, "sequence_number": number}, event=event["type"])


def _events(answer: Answer, choice: Choice) -> Iterator[dict[str, Any]]:
    begun = {**_head(answer), "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    yield from item_events(answer, choice)
    whole = body(answer)
    yield {"type": f"response.{whole['status']}", "response": whole}


def error_event(failure: Failure) -> bytes:
    """An error when the stream has begun; documented flat, sent nested, so both."""
    nested = _openai.error(failure)["error"]
    return sse({"type": "error", "sequence_number": 0, **nested, "error": nested} | {"type": "error"}, event="error")


DIALECT = Dialect(
    name="openai.responses",
    path=re.compile(r"/responses$"),
    ask=ask,
    body=body,
    events=events,
    error=_openai.error,
    error_event=error_event,
)
