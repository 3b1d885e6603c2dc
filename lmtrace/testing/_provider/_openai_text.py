"""OpenAI's text completions: a prompt in, text out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import accumulate, zip_longest
from typing import Any

from lmtrace.testing._provider import _openai
from lmtrace.testing._provider._answer import CREATED, Answer, Choice
from lmtrace.testing._provider._dialect import Dialect, sse
from lmtrace.testing._provider._request import Ask


def ask(body: Mapping[str, Any], path: Mapping[str, str]) -> Ask:
    """Read a text completion request; several prompts are one answer each, as at OpenAI."""
    prompt = body.get("prompt", "")
    prompts = [prompt] if isinstance(prompt, str) else [str(part) for part in prompt]
    return Ask(
        model=body.get("model", "unknown"),
        messages=tuple(("user", text) for text in prompts),
        stream=bool(body.get("stream")),
        choices=(body.get("n") or 1) * max(len(prompts), 1),
        max_tokens=body.get("max_tokens"),
        logprobs=body.get("logprobs") is not None,
    )


def body(answer: Answer) -> Mapping[str, Any]:
    """The whole answer in one body."""
    return {
        **_head(answer),
        "choices": [_choice(choice, choice.text or "", choice.finish_reason) for choice in answer.choices],
        **({"usage": _openai.usage(answer.usage)} if answer.usage else {}),
        **answer.extra,
    }


def events(answer: Answer) -> Iterator[bytes]:
    """The answer as a stream."""
    wants_usage = (answer.request.json.get("stream_options") or {}).get("include_usage")
    for row in zip_longest(*(_steps(answer, choice) for choice in answer.choices)):
        for step in filter(None, row):
            yield sse({**_head(answer), "choices": [step], **answer.extra})
    if wants_usage and answer.usage:
        yield sse({**_head(answer), "choices": [], "usage": _openai.usage(answer.usage), **answer.extra})
    yield _openai.DONE


def _head(answer: Answer) -> dict[str, Any]:
    return {"id": answer.name("cmpl-"), "object": "text_completion", "created": CREATED, "model": answer.model}


def _steps(answer: Answer, choice: Choice) -> Iterator[dict[str, Any]]:
    for piece in answer.pieces(choice.text):
        yield {"text": piece, "index": choice.index, "logprobs": None, "finish_reason": None}
    yield _choice(choice, "", choice.finish_reason)


def _choice(choice: Choice, text: str, finish_reason: str) -> dict[str, Any]:
    return {
        "text": text,
        "index": choice.index,
        "logprobs": _logprobs(choice),
        "finish_reason": finish_reason,
    }


def _logprobs(choice: Choice) -> dict[str, Any] | None:
    if choice.logprobs is None:
        return None
    tokens = [text for text, _ in choice.logprobs]
    return {
        "tokens": tokens,
        "token_logprobs": [logprob for _, logprob in choice.logprobs],
        "top_logprobs": [{text: logprob} for text, logprob in choice.logprobs],
        "text_offset": list(accumulate(map(len, tokens[:-1]), initial=0)) if tokens else [],
    }


DIALECT = Dialect(
    name="openai.text",
    path=re.compile(r"(?<!/chat)/completions$"),
    ask=ask,
    body=body,
    events=events,
    error=_openai.error,
    error_event=_openai.error_event,
)
