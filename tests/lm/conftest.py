"""Backends without a network, and the two ways of calling: each rule of an LM holds for both."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from typing import Any

import pytest

import lmtrace
from lmtrace import LMOutput, LMRequest, LMResponse, LMUsage
from lmtrace._data import LMChunk, LMTextPart


def response_of(*texts: str, **fields: Any) -> LMResponse:
    outputs = tuple(LMOutput(parts=(LMTextPart(text),), finish_reason="stop") for text in texts)
    usage = LMUsage(input_tokens=3, output_tokens=2, total_tokens=5)
    return LMResponse(**{"model": "m-2026", "outputs": outputs, "usage": usage, "cost": 0.001, **fields})


class Pieces:
    """A stream of texts; an exception among them is raised in its place."""

    def __init__(self, pieces: list[str | Exception]) -> None:
        self.left = list(pieces)
        self.seen: list[str] = []
        self.closed = False

    def step(self) -> LMChunk | None:
        if not self.left:
            return None
        piece = self.left.pop(0)
        if isinstance(piece, Exception):
            raise piece
        self.seen.append(piece)
        return LMChunk(text=piece)

    def __iter__(self) -> Iterator[LMChunk]:
        while (chunk := self.step()) is not None:
            yield chunk

    async def __aiter__(self) -> AsyncIterator[LMChunk]:
        while (chunk := self.step()) is not None:
            yield chunk

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True

    @property
    def response(self) -> LMResponse:
        return response_of("".join(self.seen))


class Script:
    """A backend that gives the answers it was told, in order, the last one again and again; exceptions are raised.

    A list among the answers is a stream's pieces.
    """

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers) or ["fine"]
        self.requests: list[LMRequest] = []
        self.secrets: list[Mapping[str, Any]] = []
        self.lock = threading.Lock()

    def _next(self, request: LMRequest, secrets: Mapping[str, Any]) -> Any:
        with self.lock:
            self.requests.append(request)
            self.secrets.append(secrets)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        answer = self._next(request, secrets)
        return response_of(answer) if isinstance(answer, str) else answer

    async def acomplete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        return self.complete(request, secrets)

    def stream(self, request: LMRequest, secrets: Mapping[str, Any]) -> Pieces:
        answer = self._next(request, secrets)
        return Pieces([answer] if isinstance(answer, str) else answer)

    async def astream(self, request: LMRequest, secrets: Mapping[str, Any]) -> Pieces:
        return self.stream(request, secrets)


class Sync:
    """Calls as they are."""

    def call(self, lm: lmtrace.LM, *args: Any, **kwargs: Any) -> list[Any]:
        return lm(*args, **kwargs)

    def forward(self, lm: lmtrace.LM, *args: Any, **kwargs: Any) -> LMResponse:
        return lm.forward(*args, **kwargs)

    def stream(self, lm: lmtrace.LM, *args: Any, **kwargs: Any) -> tuple[list[str], Any]:
        stream = lm.stream(*args, **kwargs)
        return list(stream), stream

    def stop_after(self, count: int, lm: lmtrace.LM, *args: Any, **kwargs: Any) -> Any:
        with lm.stream(*args, **kwargs) as stream:
            for _ in range(count):
                next(stream)
        return stream


class Async:
    """The same through the async twins."""

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What `asyncio.run` does, and LiteLLM's connections of that loop closed."""

        async def main() -> Any:
            try:
                return await work
            finally:
                litellm = sys.modules.get("litellm")
                if litellm is not None:
                    await litellm.close_litellm_async_clients()

        return asyncio.run(main())

    def call(self, lm: lmtrace.LM, *args: Any, **kwargs: Any) -> list[Any]:
        return self.run(lm.acall(*args, **kwargs))

    def forward(self, lm: lmtrace.LM, *args: Any, **kwargs: Any) -> LMResponse:
        return self.run(lm.aforward(*args, **kwargs))

    def stream(self, lm: lmtrace.LM, *args: Any, **kwargs: Any) -> tuple[list[str], Any]:
        async def read() -> tuple[list[str], Any]:
            stream = lm.astream(*args, **kwargs)
            return [text async for text in stream], stream

        return self.run(read())

    def stop_after(self, count: int, lm: lmtrace.LM, *args: Any, **kwargs: Any) -> Any:
        async def read() -> Any:
            async with lm.astream(*args, **kwargs) as stream:
                for _ in range(count):
                    await anext(stream)
            return stream

        return self.run(read())


Way = Sync | Async


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def way(request: pytest.FixtureRequest) -> Way:
    made: Way = request.param()
    return made


@pytest.fixture(autouse=True)
def no_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Rows are tested elsewhere; a failure of our own code is raised instead of counted."""
    monkeypatch.setenv("LMTRACE_TEST_RAISE", "1")
    lmtrace.configure(store=None)
    yield
    lmtrace.shutdown()


@pytest.fixture
def script() -> type[Script]:
    return Script


@pytest.fixture
def respond() -> Any:
    return response_of
