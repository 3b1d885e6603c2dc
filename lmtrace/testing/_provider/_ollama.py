"""Ollama: chat, bare generation and embeddings; streams are lines of JSON, and stream unless told not to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lmtrace.testing._provider._answer import CREATED_TEXT, Answer, Choice
from lmtrace.testing._provider._dialect import JSON_LINES, Dialect, json_line, word
from lmtrace.testing._provider._openai_embeddings import inputs
from lmtrace.testing._provider._reply import Failure
from lmtrace.testing._provider._request import Ask, spoken

_FINISH = {"tool_calls": "stop", "content_filter": "stop"}

_WORDS = {
    "context_length_exceeded": "the prompt has 9000 tokens and exceeds the available context size of 8192 tokens",
    "400": "invalid options",
    "401": "unauthorized",
    "403": "forbidden",
    "404": 'model "loopback" not found, try pulling it first',
    "429": "too many concurrent requests",
    "500": "llama runner process has terminated",
    "503": "server busy, please try again.  maximum pending requests exceeded",
}


def ask_chat(body: Mapping[str, Any], path: Mapping[str, str]) -> Ask:
    """Read a chat request."""
    return _ask(body, spoken(body.get("messages")))


def ask_generate(body: Mapping[str, Any], path: Mapping[str, str]) -> Ask:
    """Read a request to continue a prompt."""
    system = (("system", body["system"]),) if body.get("system") else ()
    return _ask(body, (*system, ("user", body.get("prompt", ""))))


def _ask(body: Mapping[str, Any], messages: tuple[tuple[str, str], ...]) -> Ask:
    wanted = body.get("format")
    limit = (body.get("options") or {}).get("num_predict")
    return Ask(
        model=body.get("model", "unknown"),
        messages=messages,
        stream=bool(body.get("stream", True)),
        max_tokens=limit if limit and limit > 0 else None,  # negative: no limit
        schema=wanted if isinstance(wanted, Mapping) else {} if wanted == "json" else None,
    )


def ask_embed(body: Mapping[str, Any], path: Mapping[str, str]) -> Ask:
    """Read an embeddings request."""
    return Ask(model=body.get("model", "unknown"), inputs=inputs(body.get("input")))


def chat_body(answer: Answer) -> Mapping[str, Any]:
    """A chat answer in one body."""
    choice = answer.first
    message = {"role": "assistant", "content": _text(choice) or ""}
    if choice.reasoning is not None:
        message["thinking"] = choice.reasoning
    return {**_head(answer), "message": {**message, **_tools(choice)}, **_foot(answer)}


def generate_body(answer: Answer) -> Mapping[str, Any]:
    """A continuation in one body."""
    thinking = {} if answer.first.reasoning is None else {"thinking": answer.first.reasoning}
    return {**_head(answer), "response": _text(answer.first) or "", **thinking, **_foot(answer)}


def embed_body(answer: Answer) -> Mapping[str, Any]:
    """The vectors in one body."""
    counts = {"prompt_eval_count": answer.usage.input_tokens} if answer.usage else {}
    return {
        "model": answer.model,
        "embeddings": answer.embeddings,
        "total_duration": 1_000_000,
        **counts,
        **answer.extra,
    }


def chat_events(answer: Answer) -> Iterator[bytes]:
    """A chat answer as lines: thinking, text, tool calls, and the counts in the last one."""
    head, choice = _head(answer), answer.first
    for piece in answer.pieces(choice.reasoning):
        yield json_line({**head, "message": {"role": "assistant", "content": "", "thinking": piece}, "done": False})
    for piece in answer.pieces(_text(choice)):
        yield json_line({**head, "message": {"role": "assistant", "content": piece}, "done": False})
    if choice.tool_calls:
        yield json_line({**head, "message": {"role": "assistant", "content": "", **_tools(choice)}, "done": False})
    yield json_line({**head, "message": {"role": "assistant", "content": ""}, **_foot(answer)})


def generate_events(answer: Answer) -> Iterator[bytes]:
    """A continuation as lines."""
    head, choice = _head(answer), answer.first
    for piece in answer.pieces(choice.reasoning):
        yield json_line({**head, "response": "", "thinking": piece, "done": False})
    for piece in answer.pieces(_text(choice)):
        yield json_line({**head, "response": piece, "done": False})
    yield json_line({**head, "response": "", **_foot(answer)})


def embed_events(answer: Answer) -> Iterator[bytes]:
    """Embeddings are never streamed; the body in one piece."""
    yield json_line(embed_body(answer))


def _text(choice: Choice) -> str | None:
    return choice.refusal if choice.text is None else choice.text


def _tools(choice: Choice) -> dict[str, Any]:
    calls = [
        {"id": call.id, "function": {"index": index, "name": call.name, "arguments": call.input}}
        for index, call in enumerate(choice.tool_calls)
    ]
    return {"tool_calls": calls} if calls else {}


def _head(answer: Answer) -> dict[str, Any]:
    return {"model": answer.model, "created_at": CREATED_TEXT}


def _foot(answer: Answer) -> dict[str, Any]:
    """How it ended, and what it took (durations in nanoseconds)."""
    finish = answer.first.finish_reason
    counts: dict[str, Any] = {}
    if answer.usage:
        counts = {"prompt_eval_count": answer.usage.input_tokens, "eval_count": answer.usage.output_tokens}
    return {
        "done": True,
        "done_reason": _FINISH.get(finish, finish),
        "total_duration": 2_000_000,
        "load_duration": 500_000,
        "prompt_eval_duration": 500_000,
        "eval_duration": 1_000_000,
        **counts,
        **answer.extra,
    }


def error(failure: Failure) -> Mapping[str, Any]:
    """Ollama's error body."""
    return {"error": word(_WORDS, failure)}


def error_event(failure: Failure) -> bytes:
    """The same inside a stream."""
    return json_line(error(failure))


CHAT = Dialect(
    name="ollama.chat",
    path=re.compile(r"/api/chat$"),
    ask=ask_chat,
    body=chat_body,
    events=chat_events,
    error=error,
    error_event=error_event,
    stream_type=JSON_LINES,
)
GENERATE = Dialect(
    name="ollama.generate",
    path=re.compile(r"/api/generate$"),
    ask=ask_generate,
    body=generate_body,
    events=generate_events,
    error=error,
    error_event=error_event,
    stream_type=JSON_LINES,
)
EMBED = Dialect(
    name="ollama.embed",
    path=re.compile(r"/api/embed$"),
    ask=ask_embed,
    body=embed_body,
    events=embed_events,
    error=error,
    error_event=error_event,
    stream_type=JSON_LINES,
)
