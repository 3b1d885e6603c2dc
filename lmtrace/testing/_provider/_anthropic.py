"""Anthropic's messages: blocks of thinking, text and tool use, cached tokens beside the input instead of inside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lmtrace._data import LMCitationPart, LMUsage
from lmtrace.testing._provider._answer import Answer, Choice, ToolCall
from lmtrace.testing._provider._dialect import Dialect, sse, word
from lmtrace.testing._provider._reply import Failure
from lmtrace.testing._provider._request import Ask, insisted, spoken, text_of

_FINISH = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}

_JSON_TOOL = "json_tool_call"
"""What LiteLLM calls the tool by which it asks older models for JSON; a model that is forced to call it does so."""

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

_WORDS = {
    "context_length_exceeded": "prompt is too long: 210000 tokens > 200000 maximum",
    "content_policy_violation": "Output blocked by content filtering policy",
    "400": "messages: at least one message is required",
    "401": "invalid x-api-key",
    "403": "Your API key does not have permission to use the specified resource.",
    "404": "The requested resource could not be found.",
    "429": "Number of requests has exceeded your per-minute rate limit.",
    "500": "Internal server error",
    "503": "Service unavailable",
    "529": "Overloaded",
}


def ask(body: Mapping[str, Any], path: Mapping[str, str]) -> Ask:
    """Read a messages request; the system prompt counts as a message."""
    system = text_of(body.get("system"))
    choice = body.get("tool_choice") or {}
    return Ask(
        model=body.get("model", "unknown"),
        messages=((("system", system),) if system else ()) + spoken(body.get("messages")),
        stream=bool(body.get("stream")),
        max_tokens=body.get("max_tokens"),
        schema=_schema(body),
        tool=insisted(
            ((tool.get("name", ""), tool.get("input_schema")) for tool in body.get("tools") or ()),
            named=choice.get("name"),
            any_of=choice.get("type") == "any",
        ),
    )


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    wanted = body.get("output_format") or (body.get("output_config") or {}).get("format") or {}
    schema: Mapping[str, Any] | None = wanted.get("schema")
    return schema


def body(answer: Answer) -> Mapping[str, Any]:
    """The whole answer in one body."""
    return {
        **_head(answer),
        "content": list(_blocks(answer)),
        "stop_reason": _stop_reason(answer),
        "usage": usage(answer.usage) if answer.usage else {},
        **answer.extra,
    }


def _head(answer: Answer) -> dict[str, Any]:
    return {
        "id": answer.name("msg_"),
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _stop_reason(answer: Answer) -> str:
    choice = answer.first
    forced = choice.finish_reason == "stop" and _calls(answer, choice)
    return "tool_use" if forced else _FINISH.get(choice.finish_reason, choice.finish_reason)


def usage(counted: LMUsage) -> dict[str, Any]:
    """Token counts, where the input is what was neither read from the cache nor written to it."""
    read, written = counted.cache_read_tokens or 0, counted.cache_write_tokens or 0
    counts: dict[str, Any] = {
        "input_tokens": (counted.input_tokens or 0) - read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": counted.output_tokens,
        "service_tier": "standard",
    }
    if counted.reasoning_tokens is not None:
        counts["output_tokens_details"] = {"thinking_tokens": counted.reasoning_tokens}
    return counts


def _blocks(answer: Answer) -> Iterator[dict[str, Any]]:
    """The content: thinking, text, tools."""
    choice = answer.first
    if choice.reasoning is not None:
        yield {"type": "thinking", "thinking": choice.reasoning, "signature": f"signature-{answer.serial}"}
    calls = _calls(answer, choice)
    text = choice.refusal if choice.text is None else choice.text
    if text is not None and (choice.tool_calls or not calls):
        citations = {"citations": [_citation(part) for part in choice.citations]} if choice.citations else {}
        yield {"type": "text", "text": text, **citations}
    for call in calls:
        yield {"type": "tool_use", "id": call.id, "name": call.name, "input": call.input}


def _calls(answer: Answer, choice: Choice) -> tuple[ToolCall, ...]:
    """The tool calls; a text answer where LiteLLM forces its JSON tool becomes a call of that tool."""
    forced = answer.request.ask.tool
    if choice.tool_calls or not choice.text or forced is None or forced[0] != _JSON_TOOL:
        return choice.tool_calls
    return (ToolCall(id=f"toolu_{answer.serial:08d}", name=_JSON_TOOL, arguments=choice.text),)


def _citation(part: LMCitationPart) -> dict[str, Any]:
    if part.url is None:
        place = {"document_index": 0, "start_char_index": 0, "end_char_index": len(part.text or "")}
        return {"type": "char_location", "cited_text": part.text or "", "document_title": part.title, **place}
    return {
        "type": "web_search_result_location",
        "cited_text": part.text or "",
        "url": part.url,
        "title": part.title,
        "encrypted_index": "loopback",
    }


def events(answer: Answer) -> Iterator[bytes]:
    """The answer as a stream of named events."""
    for event in _events(answer):
        yield sse(event, event=event["type"])


def _events(answer: Answer) -> Iterator[dict[str, Any]]:
    counts = usage(answer.usage) if answer.usage else {}
    begun = {**counts, "output_tokens": 1} if counts else {}
    yield {"type": "message_start", "message": {**_head(answer), "usage": begun, **answer.extra}}
    yield {"type": "ping"}
    for index, block in enumerate(_blocks(answer)):
        at = {"index": index}
        yield {"type": "content_block_start", **at, "content_block": _empty(block)}
        for delta in _deltas(answer, block):
            yield {"type": "content_block_delta", **at, "delta": delta}
        yield {"type": "content_block_stop", **at}
    stop = {"stop_reason": _stop_reason(answer), "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": counts}
    yield {"type": "message_stop"}


def _empty(block: dict[str, Any]) -> dict[str, Any]:
    """A block as it begins."""
    blank = {"text": "", "thinking": "", "signature": "", "input": {}, "citations": []}
    return {name: blank.get(name, value) for name, value in block.items()}


def _deltas(answer: Answer, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What fills a block."""
    if block["type"] == "thinking":
        yield from ({"type": "thinking_delta", "thinking": piece} for piece in answer.pieces(block["thinking"]))
        yield {"type": "signature_delta", "signature": block["signature"]}
    elif block["type"] == "text":
        yield from ({"type": "text_delta", "text": piece} for piece in answer.pieces(block["text"]))
        yield from ({"type": "citations_delta", "citation": part} for part in block.get("citations", ()))
    else:
        arguments = next(call.arguments for call in _calls(answer, answer.first) if call.id == block["id"])
        yield from ({"type": "input_json_delta", "partial_json": piece} for piece in answer.pieces(arguments))


def error(failure: Failure) -> Mapping[str, Any]:
    """Anthropic's error body."""
    kind = _TYPES.get(failure.status, "api_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": word(_WORDS, failure)},
        "request_id": "req_loopback",
    }


def error_event(failure: Failure) -> bytes:
    """The same inside a stream."""
    return sse(error(failure), event="error")


DIALECT = Dialect(
    name="anthropic",
    path=re.compile(r"/messages$"),
    ask=ask,
    body=body,
    events=events,
    error=error,
    error_event=error_event,
)
