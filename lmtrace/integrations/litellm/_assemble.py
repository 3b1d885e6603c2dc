"""A streamed answer put together again: what the same call without streaming would have given.

Chunks are only kept while a stream runs, so a step costs an append; the work is done once, at the end or when somebody
wants to know what has arrived so far. LiteLLM hides the provider's token counts from the chunks it hands out unless they
were asked for, but keeps them in the ``chunks`` list of its stream: they are read there. Tokens are never counted here.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from lmtrace._data import LMChunk, LMOutput, LMResponse, LMUsage
from lmtrace.integrations.litellm import _chat, _delta, _message, _models, _text, _usage
from lmtrace.integrations.litellm._assemble_responses import ResponsesAssembly, is_event
from lmtrace.integrations.litellm._chunks import LiteLLMChunk


class Assembly(Protocol):
    """Collects the chunks of one stream."""

    def add(self, chunk: Any) -> None: ...

    def response(self) -> LMResponse | None:
        """The answer so far; None before anything arrived."""


def assembly_for(model_type: str, stream: Any) -> Assembly:
    """The assembly for a stream that LiteLLM returned."""
    return ResponsesAssembly(stream) if model_type == "responses" else ChoiceAssembly(stream)


class ChoiceAssembly:
    """Chat and text completions: chunks that hold deltas of one or more choices."""

    __slots__ = ("_chunks", "_logging", "_provider", "_seen")

    def __init__(self, stream: Any) -> None:
        self._chunks: list[Any] = []
        source = _source(stream)
        self._seen: Any = getattr(source, "chunks", None)
        logging = getattr(source, "logging_obj", None)
        self._logging = None if logging is None else weakref.ref(logging)  # it holds the stream, which must stay free
        self._provider = getattr(source, "custom_llm_provider", None)

    def add(self, chunk: Any) -> None:
        self._chunks.append(chunk)

    def response(self) -> LMResponse | None:
        chunks = self._chunks
        if not chunks:
            return None
        is_text = type(chunks[0]).__name__ == "TextCompletionResponse"
        outputs = _text_outputs(chunks) if is_text else _chat_outputs(chunks)
        usage = self._usage(is_whole=any(output.finish_reason is not None for output in outputs))
        response = _response(chunks, outputs, usage, cache_hit=self._provider == "cached_response")
        if usage is None or usage.input_tokens is None:
            return response
        obj = _text.to_text(response) if is_text else _chat.to_chat(response)
        return _usage.with_cost(response, _usage.stream_cost(obj, self._logging and self._logging(), self._provider))

    def _usage(self, *, is_whole: bool) -> LMUsage | None:
        seen = self._seen if isinstance(self._seen, list) and self._seen else None
        return merged_usage(_provider_usages(seen) if seen else _hidden_usages(self._chunks), is_whole=is_whole)


def _source(stream: Any) -> Any:
    """The stream that talks to the provider: text streams wrap a chat stream."""
    inner = getattr(stream, "completion_stream", None)
    return inner if isinstance(getattr(inner, "chunks", None), list) else stream


def _response(chunks: list[Any], outputs: list[LMOutput], usage: LMUsage | None, *, cache_hit: bool) -> LMResponse:
    first = chunks[0]
    model = next(filter(None, (_served_model(chunk) for chunk in chunks)), None) or getattr(first, "model", None)
    data: dict[str, Any] = {}
    for name in ("created", "system_fingerprint", "service_tier"):
        value = next((found for chunk in chunks if (found := getattr(chunk, name, None)) is not None), None)
        if value is not None:
            data[name] = value
    return LMResponse(
        model=model,
        outputs=outputs,
        usage=usage,
        cache_hit=cache_hit,
        response_id=getattr(first, "id", None),
        provider_data=data,
    )


def _served_model(chunk: Any) -> str | None:
    """The model the provider named, which LiteLLM replaces by the one that was asked for."""
    hidden = _models.hidden_params(chunk)
    model = _models.hidden_value(hidden, "provider_response_model") if hidden is not None else None
    return model if isinstance(model, str) else None


def _chat_outputs(chunks: list[Any]) -> list[LMOutput]:
    choices: dict[int, _delta.Choice] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            fields = choice.__pydantic_extra__ or choice.__dict__
            index = fields.get("index") or 0
            if index not in choices:
                choices[index] = _delta.Choice()
            choices[index].add(fields)
    return [_chat_output(choices[index]) for index in sorted(choices)] or [LMOutput()]


def _chat_output(choice: _delta.Choice) -> LMOutput:
    parts, message = _message.read_delta(choice.message())
    return LMOutput(
        parts=parts,
        finish_reason=choice.finish_reason,
        truncated=choice.finish_reason == "length",
        logprobs=choice.logprobs(),
        provider_data={"message": message} if message else None,
    )


def _text_outputs(chunks: list[Any]) -> list[LMOutput]:
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            fields = choice.__pydantic_extra__ or {}
            index = fields.get("index") or 0
            _add_text(choices.setdefault(index, {"index": index}), fields)
    return [_text.read_choice(choices[index], index) for index in sorted(choices)] or [LMOutput()]


def _add_text(found: dict[str, Any], fields: Mapping[str, Any]) -> None:
    for name in ("text", "reasoning_content"):
        if fields.get(name) is not None:
            found[name] = found.get(name, "") + fields[name]
    if fields.get("finish_reason") is not None:
        found["finish_reason"] = fields["finish_reason"]
    if fields.get("logprobs") is not None:
        found["logprobs"] = _delta.joined(found.get("logprobs"), _models.plain(fields["logprobs"]))


def _provider_usages(chunks: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """What the provider itself reported, chunk by chunk."""
    for chunk in chunks:
        usage = getattr(chunk, "usage", None)
        if usage is not None:
            yield _models.plain(usage)


def _hidden_usages(chunks: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """The same where the stream's own list is out of reach: LiteLLM notes the sum, or zeros, on the last chunks."""
    for chunk in chunks:
        usage = getattr(chunk, "usage", None) or _models.hidden_value(_models.hidden_params(chunk), "usage")
        if usage is not None:
            yield _models.plain(usage)


_COUNTS: Final = ("prompt_tokens", "completion_tokens")


def merged_usage(usages: Iterable[dict[str, Any]], *, is_whole: bool) -> LMUsage | None:
    """One usage from the reports of a stream: later counts win, zeros never do.

    Anthropic reports the prompt first, with a placeholder for the answer, and the answer at the end: in a stream that
    broke before its end a single report says nothing about the answer.
    """
    reports = list(usages)
    if not reports:
        return None
    found: dict[str, Any] = {}
    for report in reports:
        _merge(found, report)
    if len(reports) > 1 and all(found.get(name) for name in _COUNTS):
        found["total_tokens"] = sum(found[name] for name in _COUNTS)
    usage = _usage.usage_of(found)
    if usage is not None and not is_whole and len(reports) == 1:
        return replace(usage, output_tokens=None, total_tokens=None)
    return usage


def _merge(found: dict[str, Any], report: Mapping[str, Any]) -> None:
    for name, value in report.items():
        if isinstance(value, dict) and isinstance(found.get(name), dict):
            _merge(found[name], value)
        elif value or name not in found:
            found[name] = dict(value) if isinstance(value, dict) else value


def chunk_of(raw: Any) -> LMChunk:
    """A chunk of LiteLLM's as one of ours."""
    if is_event(raw):
        return ResponsesAssembly.chunk(raw)
    choice = raw.choices[0] if raw.choices else None
    fields = (choice.__pydantic_extra__ or {}) if choice is not None else {}
    delta = fields.get("delta")
    if delta is None:
        return LiteLLMChunk(text=fields.get("text") or "", index=fields.get("index") or 0, raw=raw)
    return LiteLLMChunk(
        text=delta.get("content") or "",
        reasoning=delta.get("reasoning_content") or "",
        index=fields.get("index") or 0,
        raw=raw,
    )
