"""OpenAI's chat completions, which most servers of open models speak too (`reasoning_content` is theirs)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from lmtrace.testing._provider import _openai
from lmtrace.testing._provider._answer import CREATED, Answer, Choice
from lmtrace.testing._provider._dialect import Dialect, sse
from lmtrace.testing._provider._request import Ask, insisted, spoken


def ask(body: Mapping[str, Any], path: Mapping[str, str]) -> Ask:
    """Read a chat completion request."""
    return Ask(
        model=body.get("model", "unknown"),
        messages=spoken(body.get("messages")),
        stream=bool(body.get("stream")),
        choices=body.get("n") or 1,
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        logprobs=bool(body.get("logprobs")),
        schema=_schema(body.get("response_format")),
        tool=_tool(body),
    )


def _schema(response_format: Any) -> Mapping[str, Any] | None:
    match response_format:
        case {"type": "json_object"}:
            return {}
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return dict(schema)
    return None


def _tool(body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    choice = body.get("tool_choice")
    functions = [tool["function"] for tool in body.get("tools") or () if "function" in tool]
    return insisted(
        ((function.get("name", ""), function.get("parameters")) for function in functions),
        named=choice.get("function", {}).get("name") if isinstance(choice, Mapping) else None,
        any_of=choice == "required",
    )


def body(answer: Answer) -> Mapping[str, Any]:
    """The whole answer in one body."""
    return {
        **_head(answer, "chat.completion"),
        "choices": [_choice(choice) for choice in answer.choices],
        **({"usage": _openai.usage(answer.usage)} if answer.usage else {}),
        **answer.extra,
    }


def events(answer: Answer) -> Iterator[bytes]:
    """The answer as a stream, the choices in turn as they come from a real server."""
    head = _head(answer, "chat.completion.chunk")
    wants_usage = (answer.request.json.get("stream_options") or {}).get("include_usage")
    unknown = {"usage": None} if wants_usage else {}
    for row in zip_longest(*(_steps(answer, choice) for choice in answer.choices)):
        for step in filter(None, row):
            yield sse({**head, "choices": [step], **unknown, **answer.extra})
    if wants_usage and answer.usage:
        yield sse({**head, "choices": [], "usage": _openai.usage(answer.usage), **answer.extra})
    yield _openai.DONE


def _head(answer: Answer, kind: str) -> dict[str, Any]:
    return {"id": answer.name("chatcmpl-"), "object": kind, "created": CREATED, "model": answer.model}


def _choice(choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": choice.refusal}
    if choice.reasoning is not None:
        message["reasoning_content"] = choice.reasoning
    if choice.tool_calls:
        message["tool_calls"] = _openai.tool_calls(choice)
    if choice.citations:
        message["annotations"] = _annotations(choice)
    return {
        "index": choice.index,
        "message": message,
        "logprobs": _logprobs(choice.logprobs),
        "finish_reason": choice.finish_reason,
    }


def _annotations(choice: Choice) -> list[dict[str, Any]]:
    return [
        {
            "type": "url_citation",
            "url_citation": {"url": part.url, "title": part.title, **_openai.span(choice, part.text)},
        }
        for part in choice.citations
    ]


def _logprobs(entries: tuple[tuple[str, float], ...] | None) -> dict[str, Any] | None:
    return None if entries is None else {"content": list(map(_openai.token, entries)), "refusal": None}


def _steps(answer: Answer, choice: Choice) -> Iterator[dict[str, Any]]:
    """What one choice puts in each chunk."""
    for delta, logprobs in _deltas(answer, choice):
        yield {"index": choice.index, "delta": delta, "logprobs": logprobs, "finish_reason": None}
    yield {"index": choice.index, "delta": {}, "logprobs": None, "finish_reason": choice.finish_reason}


def _deltas(answer: Answer, choice: Choice) -> Iterator[tuple[dict[str, Any], Any]]:
    yield {"role": "assistant", "content": "" if choice.text is not None else None, "refusal": None}, None
    for piece in answer.pieces(choice.reasoning):
        yield {"reasoning_content": piece}, None
    if choice.logprobs is None:
        yield from (({"content": piece}, None) for piece in answer.pieces(choice.text))
    else:  # one token at a time, each beside its own log probability
        yield from (({"content": entry[0]}, _logprobs((entry,))) for entry in choice.logprobs)
    for piece in answer.pieces(choice.refusal):
        yield {"refusal": piece}, None
    for delta in _tool_deltas(answer, choice):
        yield {"tool_calls": [delta]}, None
    if choice.citations:
        yield {"annotations": _annotations(choice)}, None


def _tool_deltas(answer: Answer, choice: Choice) -> Iterator[dict[str, Any]]:
    """The name and the id first, then the arguments in pieces."""
    for index, call in enumerate(_openai.tool_calls(choice)):
        arguments = call["function"]["arguments"]
        yield {"index": index, **call, "function": {**call["function"], "arguments": ""}}
        for piece in answer.pieces(arguments):
            yield {"index": index, "function": {"arguments": piece}}


DIALECT = Dialect(
    name="openai.chat",
    path=re.compile(r"/chat/completions$"),
    ask=ask,
    body=body,
    events=events,
    error=_openai.error,
    error_event=_openai.error_event,
)
