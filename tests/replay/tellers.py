"""A backend that counts what it is asked, and answers when the test lets it; the two ways of asking an LM."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import lmtrace
from lmtrace import LMChunk, LMOutput, LMRequest, LMResponse, LMTextPart, LMUsage

Reply = str | BaseException | LMResponse


def answer(text: str, **fields: Any) -> LMResponse:
    output = LMOutput(parts=(LMTextPart(text),), finish_reason="stop")
    usage = LMUsage(input_tokens=3, output_tokens=2, details={"prompt_tokens": 3})
    given = {"model": "m-1", "outputs": (output,), "usage": usage, "cost": 0.25, "metadata": {"cost_source": "table"}}
    return LMResponse(**(given | fields))


class Teller:
    """Gives ``told 1``, ``told 2`` …, or what `replies` says for each call in turn.

    With a `gate`, a call waits inside until it is opened; `entered` counts the calls that have come in.
    """

    def __init__(self, *replies: Reply, name: str | None = "teller", gate: threading.Event | None = None) -> None:
        self.cache_name = name
        self.replies = list(replies)
        self.requests: list[LMRequest] = []
        self.gate = gate
        self.entered = threading.Semaphore(0)
        self.inside: Callable[[], object] = bool

    def _taken(self, request: LMRequest) -> LMResponse:
        self.requests.append(request)
        number = len(self.requests)
        self.entered.release()
        self.inside()
        reply = self.replies.pop(0) if self.replies else f"told {number}"
        if isinstance(reply, BaseException):
            raise reply
        return answer(reply) if isinstance(reply, str) else reply

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        response = self._taken(request)
        if self.gate is not None:
            assert self.gate.wait(60)
        return response

    async def acomplete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        response = self._taken(request)
        if self.gate is not None:
            assert await asyncio.to_thread(self.gate.wait, 60)
        return response

    def stream(self, request: LMRequest, secrets: Mapping[str, Any]) -> Pieces:
        return Pieces(self._taken(request))

    async def astream(self, request: LMRequest, secrets: Mapping[str, Any]) -> Pieces:
        return Pieces(self._taken(request))

    def lm(self, **options: Any) -> lmtrace.LM:
        """An LM that asks this backend, once for each call."""
        return lmtrace.LM("mine/model", backend=self, **({"num_retries": 0} | options))


class Pieces:
    """An answer word by word."""

    def __init__(self, whole: LMResponse) -> None:
        self._whole = whole
        self._words = (whole.outputs[0].text or "").split(" ")
        self._seen: list[str] = []

    def _steps(self) -> Iterator[LMChunk]:
        for number, word in enumerate(self._words):
            self._seen.append(f" {word}" if number else word)
            yield LMChunk(text=self._seen[-1])

    def __iter__(self) -> Iterator[LMChunk]:
        return self._steps()

    async def __aiter__(self) -> AsyncIterator[LMChunk]:
        for chunk in self._steps():
            yield chunk

    def close(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    @property
    def response(self) -> LMResponse:
        if len(self._seen) == len(self._words):
            return self._whole
        return LMResponse(outputs=(LMOutput(parts=(LMTextPart("".join(self._seen)),)),))


class Sync:
    """Calls as they are."""

    def forward(self, lm: lmtrace.LM, *args: Any, **kwargs: Any) -> LMResponse:
        return lm.forward(*args, **kwargs)

    def stream(self, lm: lmtrace.LM, *args: Any, **kwargs: Any) -> list[str]:
        return list(lm.stream(*args, **kwargs))


class Async:
    """The same through the async twins."""

    def forward(self, lm: lmtrace.LM, *args: Any, **kwargs: Any) -> LMResponse:
        return asyncio.run(lm.aforward(*args, **kwargs))

    def stream(self, lm: lmtrace.LM, *args: Any, **kwargs: Any) -> list[str]:
        async def read() -> list[str]:
            return [text async for text in lm.astream(*args, **kwargs)]

        return asyncio.run(read())


Way = Sync | Async
