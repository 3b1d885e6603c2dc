"""A reply made whole: what the test said, and everything it left open, ready to be rendered by any dialect."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmtrace._data import LMCitationPart, LMToolCallPart, LMUsage
from lmtrace.testing._provider._canned import canned_logprobs, canned_vector, count_tokens
from lmtrace.testing._provider._reply import Reply
from lmtrace.testing._provider._request import ReceivedRequest

CREATED = 1_767_225_600
"""When every answer says it was made (2026-01-01 UTC): a constant, so that tests can compare whole answers."""

CREATED_TEXT = "2026-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One call of a tool; arguments both as the text that goes over the wire and as what it means."""

    id: str
    name: str
    arguments: str

    @property
    def input(self) -> Any:
        """The arguments as an object, for dialects that nest it; a text that is not JSON stands alone in one."""
        try:
            return json.loads(self.arguments)
        except ValueError:
            return {"arguments": self.arguments}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One candidate."""

    index: int
    text: str | None
    reasoning: str | None
    refusal: str | None
    tool_calls: tuple[ToolCall, ...]
    citations: tuple[LMCitationPart, ...]
    finish_reason: str
    logprobs: tuple[tuple[str, float], ...] | None

    @property
    def tokens(self) -> int:
        """The size of everything generated for this candidate."""
        texts = [self.text, self.reasoning, self.refusal]
        texts += [part for call in self.tool_calls for part in (call.name, call.arguments)]
        return sum(map(count_tokens, texts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a dialect renders."""

    request: ReceivedRequest
    serial: int
    """The number of this answer; ids are made of it."""

    id: str | None
    model: str
    choices: tuple[Choice, ...]
    usage: LMUsage | None
    embeddings: Sequence[Sequence[float]]
    extra: Mapping[str, Any]
    delta_size: int

    @property
    def first(self) -> Choice:
        """The choice that dialects with only one render."""
        return self.choices[0]

    def name(self, prefix: str) -> str:
        """The scripted id, or one in the dialect's manner: the prefix and a number."""
        return self.id or f"{prefix}{self.serial:08d}"

    def pieces(self, text: str | None) -> Iterator[str]:
        """A text cut as a stream delivers it."""
        for start in range(0, len(text or ""), self.delta_size):
            yield (text or "")[start : start + self.delta_size]


def complete(request: ReceivedRequest, reply: Reply, serial: int, delta_size: int) -> Answer:
    """Fill in what a reply leaves open."""
    choices = tuple(_choice(request, _alternative(reply, index), index, serial) for index in range(request.ask.choices))
    return Answer(
        request=request,
        serial=serial,
        id=reply.id,
        model=reply.model or request.model,
        choices=choices,
        usage=_usage(request, reply, choices) if reply.reports_usage else None,
        embeddings=_embeddings(request, reply),
        extra=reply.extra,
        delta_size=delta_size,
    )


def _alternative(reply: Reply, index: int) -> Reply:
    if not 0 < index <= len(reply.alternatives):
        return reply
    other = reply.alternatives[index - 1]
    return Reply(text=other) if isinstance(other, str) else other


def _choice(request: ReceivedRequest, reply: Reply, index: int, serial: int) -> Choice:
    calls = tuple(_tool_call(call, f"{serial:04d}{index}{at}") for at, call in enumerate(reply.tool_calls))
    logprobs = reply.logprobs
    if logprobs is None and request.ask.logprobs:
        logprobs = canned_logprobs(reply.text or "")
    return Choice(
        index=index,
        text=reply.text,
        reasoning=reply.reasoning,
        refusal=reply.refusal,
        tool_calls=calls,
        citations=tuple(_citation(citation) for citation in reply.citations),
        finish_reason=reply.finish_reason or ("tool_calls" if calls else "stop"),
        logprobs=None if logprobs is None else tuple(logprobs),
    )


def _tool_call(call: LMToolCallPart | Mapping[str, Any], number: str) -> ToolCall:
    part = call if isinstance(call, LMToolCallPart) else LMToolCallPart(**call)
    given = part.arguments
    arguments = given if isinstance(given, str) else json.dumps({} if given is None else given)
    return ToolCall(id=part.id or f"call_{number}", name=part.name or "", arguments=arguments)


def _citation(citation: LMCitationPart | Mapping[str, Any]) -> LMCitationPart:
    return citation if isinstance(citation, LMCitationPart) else LMCitationPart(**citation)


def _usage(request: ReceivedRequest, reply: Reply, choices: Sequence[Choice]) -> LMUsage:
    """The scripted counts; missing ones are counted."""
    given = reply.usage if isinstance(reply.usage, LMUsage) else LMUsage.from_wire(reply.usage or {})
    texts = [text for _, text in request.messages] + list(request.ask.inputs)
    asked = given.input_tokens if given.input_tokens is not None else sum(map(count_tokens, texts))
    made = given.output_tokens
    if made is None:
        made = 0 if request.ask.inputs else sum(choice.tokens for choice in choices)
    reasoning = given.reasoning_tokens
    if reasoning is None and reply.reasoning and reply.usage is None:
        reasoning = sum(count_tokens(choice.reasoning) for choice in choices)
    return LMUsage(
        input_tokens=asked,
        output_tokens=made,
        total_tokens=given.total_tokens if given.total_tokens is not None else asked + made,
        reasoning_tokens=reasoning,
        cache_read_tokens=given.cache_read_tokens,
        cache_write_tokens=given.cache_write_tokens,
        audio_tokens=given.audio_tokens,
    )


def _embeddings(request: ReceivedRequest, reply: Reply) -> Sequence[Sequence[float]]:
    if reply.embeddings is not None:
        return reply.embeddings
    dimensions = (request.json or {}).get("dimensions")
    return [canned_vector(text, dimensions) for text in request.ask.inputs]
