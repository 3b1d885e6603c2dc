"""Streams beside the cache: one that gives a kept answer piece by piece, and one that keeps what passes through it.

Only a stream that was read to its end is kept. One that was closed, broke off or was dropped is not, and whoever waits for
it is told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Self

from lmtrace._backend import AsyncChunkStream, ChunkStream
from lmtrace._data import LMChunk, LMOutput, LMReasoningPart, LMResponse, LMTextPart
from lmtrace._failures import failures
from lmtrace_replay._cached import CachedAnswer, Step

Ended = Callable[[LMResponse | None, Sequence[Step]], object]
"""Told the answer and its steps when a stream has ended by itself, None when it has not."""


class _Cached:
    """What both kinds of stream of a kept answer share."""

    def __init__(self, answer: CachedAnswer) -> None:
        self._answer = answer
        self._chunks = answer.chunks()
        self._given = 0

    @property
    def response(self) -> LMResponse:
        """The whole answer after the last chunk; before, what was given so far.

        Raises:
            ValueError: that is nothing.
        """
        whole = self._answer.response()
        if self._given >= len(self._chunks):
            return whole
        if not self._given:
            raise ValueError("nothing has arrived yet")
        outputs = tuple(self._so_far(index) for index in range(len(whole.outputs)))
        return LMResponse(model=whole.model, outputs=outputs, cache_hit=True, response_id=whole.response_id)

    def _so_far(self, index: int) -> LMOutput:
        chunks = [chunk for chunk in self._chunks[: self._given] if chunk.index == index]
        text, reasoning = "".join(chunk.text for chunk in chunks), "".join(chunk.reasoning for chunk in chunks)
        parts = ((LMReasoningPart(reasoning),) if reasoning else ()) + ((LMTextPart(text),) if text else ())
        return LMOutput(parts=parts)

    def _next(self) -> LMChunk | None:
        if self._given >= len(self._chunks):
            return None
        self._given += 1
        return self._chunks[self._given - 1]


class CachedStream(_Cached):
    """A kept answer as a stream."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LMChunk:
        chunk = self._next()
        if chunk is None:
            raise StopIteration
        return chunk

    def close(self) -> None:
        """There is nothing to stop."""


class CachedAsyncStream(_Cached):
    """The async twin of `CachedStream`."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LMChunk:
        chunk = self._next()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """There is nothing to stop."""


class _Keeping:
    """What both kinds of stream that keep their answer share: the steps, and one end."""

    _inner: ChunkStream | AsyncChunkStream

    def __init__(self, stepped: Callable[[], object], ended: Ended) -> None:
        self._steps: list[Step] = []
        self._stepped = stepped
        self._tell: Ended | None = ended

    @property
    def response(self) -> LMResponse:
        return self._inner.response

    def _passed(self, chunk: LMChunk) -> LMChunk:
        self._stepped()
        if chunk.text or chunk.reasoning:
            self._steps.append((chunk.text, chunk.reasoning, chunk.index))
        return chunk

    def _ended(self, *, whole: bool = False) -> None:
        tell, self._tell = self._tell, None
        if tell is None:
            return
        response = None
        if whole:
            with suppress(Exception):  # a stream without an answer is for its reader to complain about
                response = self._inner.response
        try:
            tell(response, self._steps)
        except Exception as error:
            failures.note("keeping a streamed answer", error)

    def __del__(self) -> None:
        """Dropped before its end: those who wait go on."""
        self._ended()


class KeepingStream(_Keeping):
    """A running stream of the provider whose answer is kept when it ends."""

    _inner: ChunkStream

    def __init__(self, inner: ChunkStream, stepped: Callable[[], object], ended: Ended) -> None:
        super().__init__(stepped, ended)
        self._inner = inner
        self._chunks = iter(inner)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LMChunk:
        try:
            return self._passed(next(self._chunks))
        except StopIteration:
            self._ended(whole=True)
            raise
        except BaseException:
            self._ended()
            raise

    def close(self) -> None:
        """Stop early."""
        try:
            self._inner.close()
        finally:
            self._ended()


class KeepingAsyncStream(_Keeping):
    """The async twin of `KeepingStream`."""

    _inner: AsyncChunkStream

    def __init__(self, inner: AsyncChunkStream, stepped: Callable[[], object], ended: Ended) -> None:
        super().__init__(stepped, ended)
        self._inner = inner
        self._chunks = aiter(inner)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LMChunk:
        try:
            return self._passed(await anext(self._chunks))
        except StopAsyncIteration:
            self._ended(whole=True)
            raise
        except BaseException:
            self._ended()
            raise

    async def aclose(self) -> None:
        """Stop early."""
        try:
            await self._inner.aclose()
        finally:
            self._ended()
