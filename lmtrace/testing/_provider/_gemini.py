"""Google's Gemini: candidates made of parts, thoughts counted beside the candidates instead of inside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from lmtrace._data import LMUsage
from lmtrace.testing._provider._answer import CREATED_TEXT, Answer, Choice
from lmtrace.testing._provider._dialect import Dialect, sse, word
from lmtrace.testing._provider._openai import span
from lmtrace.testing._provider._reply import Failure
from lmtrace.testing._provider._request import Ask, insisted, text_of

_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
_ROLES = {"model": "assistant", "function": "tool"}

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

_WORDS = {
    "context_length_exceeded": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "content_policy_violation": "The response was blocked.",
    "400": "Request contains an invalid argument.",
    "401": "API key not valid. Please pass a valid API key.",
    "404": "models/loopback is not found for API version v1beta, or is not supported for generateContent.",
    "429": "Resource has been exhausted (e.g. check quota).",
    "500": "An internal error has occurred. Please retry.",
    "503": "The service is currently unavailable.",
}


def ask(body: Mapping[str, Any], path: Mapping[str, str]) -> Ask:
    """Read a generation request; LiteLLM writes some names in snake case, Google's clients in camel case."""
    config = _either(body, "generationConfig", "generation_config") or {}
    return Ask(
        model=path["model"],
        messages=tuple(_messages(body)),
        stream=path["method"] == "streamGenerateContent",
        choices=_either(config, "candidateCount", "candidate_count") or 1,
        max_tokens=_either(config, "maxOutputTokens", "max_output_tokens"),
        logprobs=bool(_either(config, "responseLogprobs", "response_logprobs")),
        schema=_schema(config),
        tool=_tool(body),
    )


def _either(mapping: Mapping[str, Any], *names: str) -> Any:
    return next((mapping[name] for name in names if mapping.get(name) is not None), None)


def _messages(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    system = _either(body, "systemInstruction", "system_instruction")
    if system:
        yield "system", text_of(system.get("parts"))
    for content in body.get("contents") or ():
        role = content.get("role", "user")
        yield _ROLES.get(role, role), text_of(content.get("parts"))


def _schema(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    schema: Mapping[str, Any] | None = _either(
        config, "responseJsonSchema", "responseSchema", "response_json_schema", "response_schema"
    )
    wants_json = _either(config, "responseMimeType", "response_mime_type") == "application/json"
    return schema or ({} if wants_json else None)


def _tool(body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    calling = _either(_either(body, "toolConfig", "tool_config") or {}, "functionCallingConfig") or {}
    allowed = _either(calling, "allowedFunctionNames", "allowed_function_names")
    declared = [
        function
        for tool in body.get("tools") or ()
        for function in _either(tool, "functionDeclarations", "function_declarations") or ()
    ]
    wanted = calling.get("mode") == "ANY"
    return insisted(
        ((function["name"], _either(function, "parameters", "parametersJsonSchema")) for function in declared),
        named=allowed[0] if wanted and allowed else None,
        any_of=wanted,
    )


def body(answer: Answer) -> Mapping[str, Any]:
    """The whole answer in one body."""
    candidates = [_candidate(choice, list(_parts(answer, choice)), last=True) for choice in answer.choices]
    return {"candidates": candidates, **_foot(answer, _counts(answer))}


def events(answer: Answer) -> Iterator[bytes]:
    """The answer as a stream of partial bodies, the candidates in turn; the last one has the full counts."""
    asked = {"promptTokenCount": answer.usage.input_tokens} if answer.usage else None
    for row in zip_longest(*(_streamed(answer, choice) for choice in answer.choices)):
        for candidate in filter(None, row):
            yield sse({"candidates": [candidate], **_foot(answer, asked)})
    last = [_candidate(choice, [{"text": ""}], last=True) for choice in answer.choices]
    yield sse({"candidates": last, **_foot(answer, _counts(answer))})


def _streamed(answer: Answer, choice: Choice) -> Iterator[dict[str, Any]]:
    for part in _parts(answer, choice):
        name = "text" if "text" in part else ""
        pieces = answer.pieces(part[name]) if name else iter(())
        for piece in pieces:
            yield _candidate(choice, [{**part, name: piece}])
        if not name:  # function calls arrive whole
            yield _candidate(choice, [part])


def _counts(answer: Answer) -> dict[str, Any] | None:
    return usage(answer.usage) if answer.usage else None


def _foot(answer: Answer, counts: dict[str, Any] | None) -> dict[str, Any]:
    return {
        **({"usageMetadata": counts} if counts else {}),
        "modelVersion": answer.model,
        "createTime": CREATED_TEXT,
        "responseId": answer.name("gemini-"),
        **answer.extra,
    }


def _parts(answer: Answer, choice: Choice) -> Iterator[dict[str, Any]]:
    """The content: thoughts, text, function calls."""
    if choice.reasoning is not None:
        yield {"text": choice.reasoning, "thought": True}
    text = choice.refusal if choice.text is None else choice.text
    if text is not None:
        yield {"text": text}
    for call in choice.tool_calls:
        yield {"functionCall": {"name": call.name, "args": call.input}}


def _candidate(choice: Choice, parts: list[dict[str, Any]], *, last: bool = False) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": choice.index}
    if not last:
        return candidate
    candidate["finishReason"] = _FINISH.get(choice.finish_reason, choice.finish_reason)
    if choice.citations:
        candidate["groundingMetadata"] = _grounding(choice)
    if choice.logprobs is not None:
        tokens = [{"token": text, "logProbability": logprob} for text, logprob in choice.logprobs]
        candidate["logprobsResult"] = {
            "chosenCandidates": tokens,
            "topCandidates": [{"candidates": [token]} for token in tokens],
        }
    return candidate


def _grounding(choice: Choice) -> dict[str, Any]:
    """Citations: the sources, and which passage of the answer each supports."""
    supports = []
    for index, part in enumerate(choice.citations):
        at = span(choice, part.text)
        segment = {"startIndex": at["start_index"], "endIndex": at["end_index"], "text": part.text or choice.text or ""}
        supports.append({"segment": segment, "groundingChunkIndices": [index]})
    chunks = [{"web": {"uri": part.url, "title": part.title}} for part in choice.citations]
    return {"groundingChunks": chunks, "groundingSupports": supports}


def usage(counted: LMUsage) -> dict[str, Any]:
    """Token counts, where thoughts are counted apart from the candidates."""
    counts: dict[str, Any] = {
        "promptTokenCount": counted.input_tokens,
        "candidatesTokenCount": (counted.output_tokens or 0) - (counted.reasoning_tokens or 0),
        "totalTokenCount": counted.total_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": counted.input_tokens}],
    }
    if counted.reasoning_tokens is not None:
        counts["thoughtsTokenCount"] = counted.reasoning_tokens
    if counted.cache_read_tokens is not None:
        counts["cachedContentTokenCount"] = counted.cache_read_tokens
    return counts


def error(failure: Failure) -> Mapping[str, Any]:
    """Google's error body."""
    status = _STATUSES.get(failure.status, "UNKNOWN")
    return {"error": {"code": failure.status, "message": word(_WORDS, failure), "status": status}}


def error_event(failure: Failure) -> bytes:
    """The same inside a stream."""
    return sse(error(failure))


DIALECT = Dialect(
    name="gemini",
    path=re.compile(r"/models/(?P<model>[^/:]+):(?P<method>generateContent|streamGenerateContent)$"),
    ask=ask,
    body=body,
    events=events,
    error=error,
    error_event=error_event,
)
