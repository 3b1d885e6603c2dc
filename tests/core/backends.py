"""Backends without a network: one that answers, fails or streams as told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

from lmtrace import LMChunk, LMOutput, LMRequest, LMResponse, LMTextPart, LMUsage
from lmtrace._traced import TracedBackend

PROMPT = "What is the capital of France, in one word?"


def answer(*texts: str, **fields: Any) -> LMResponse:
    """A response with one candidate for each text."""
    outputs = tuple(LMOutput(parts=(LMTextPart(text),), finish_reason="stop") for text in texts or ("Paris",))
    usage = LMUsage(input_tokens=9, output_tokens=1, total_tokens=10)
    given = {"model": "gpt-4o-mini-2024-07-18", "outputs": outputs, "usage": usage, "cost": 0.00002}
    return LMResponse(**{**given, **fields})


def asked(**fields: Any) -> LMRequest:
    """A request of one user message."""
    given = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": PROMPT}], "kwargs": {}}
    return LMRequest(**{**given, **fields})


class Stream:
    """Pieces of a streamed answer; an exception among them is raised in its place."""

    def __init__(self, pieces: tuple[str | BaseException, ...], between: Callable[[], object]) -> None:
        self._pieces = list(pieces)
        self._between = between
        self._seen: list[str] = []
        self.closed = False

    def _next(self) -> LMChunk:
        self._between()
        piece = self._pieces.pop(0)
        if isinstance(piece, BaseException):
            raise piece
        self._seen.append(piece)
        return LMChunk(text=piece)

    def __iter__(self) -> Iterator[LMChunk]:
        while self._pieces:
            yield self._next()

    async def __aiter__(self) -> AsyncIterator[LMChunk]:
        while self._pieces:
            yield self._next()

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True

    @property
    def response(self) -> LMResponse:
        """Like LiteLLM's assembly: there is none before anything has arrived."""
        if not self._seen:
            raise ValueError("nothing has arrived")
        return answer("".join(self._seen))


class Answering:
    """Answers every request with `reply`: a response, an exception to raise, or a function of request and secrets."""

    def __init__(
        self, reply: Any = None, *, pieces: tuple[str | BaseException, ...] = (), between: Callable[[], object] = bool
    ) -> None:
        self._reply = answer() if reply is None else reply
        self._pieces = pieces
        self._between = between
        self.streams: list[Stream] = []

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        self._between()
        reply = self._reply
        if isinstance(reply, BaseException):
            raise reply
        result: LMResponse = reply(request, secrets) if callable(reply) else reply
        return result

    async def acomplete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        return self.complete(request, secrets)

    def stream(self, request: LMRequest, secrets: Mapping[str, Any]) -> Stream:
        if isinstance(self._reply, BaseException):
            raise self._reply
        self.streams.append(Stream(self._pieces, self._between))
        return self.streams[-1]

    async def astream(self, request: LMRequest, secrets: Mapping[str, Any]) -> Stream:
        return self.stream(request, secrets)


def drain(
    backend: Any, request: LMRequest, secrets: Mapping[str, Any] | None = None, steps: int | None = None
) -> list[str]:
    """The texts of a stream, which is closed after `steps`."""
    stream = TracedBackend(backend).stream(request, secrets or {})
    texts = []
    for chunk in stream:
        texts.append(chunk.text)
        if len(texts) == steps:
            stream.close()
            break
    return texts


async def drain_async(
    backend: Any, request: LMRequest, secrets: Mapping[str, Any] | None = None, steps: int | None = None
) -> list[str]:
    """The async twin of `drain`."""
    stream = await TracedBackend(backend).astream(request, secrets or {})
    texts = []
    async for chunk in stream:
        texts.append(chunk.text)
        if len(texts) == steps:
            await stream.aclose()
            break
    return texts
