"""The backend that records: it holds another backend and opens one call around each of its answers."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any, Self

from lmtrace import _recorder
from lmtrace._backend import AsyncChunkStream, Backend, ChunkStream
from lmtrace._data import LMChunk, LMRequest, LMResponse
from lmtrace._entry import HistoryEntry
from lmtrace._record import CallRecord


class TracedBackend:
    """Answers as `inner` does, and leaves a span, a row and a history entry for every call.

    `call` and `acall` give the entry with the answer, for callers that keep a history; `complete` and `acomplete` make
    this a backend like any other.
    """

    def __init__(self, inner: Backend) -> None:
        self.inner = inner

    def call(self, request: LMRequest, secrets: Mapping[str, Any]) -> tuple[LMResponse, HistoryEntry]:
        """The answer and the history entry of the call.

        Raises:
            Exception: whatever `inner` raises, unchanged.
        """
        with _recorder.current().start(request, secrets) as record:
            response = self.inner.complete(request, secrets)
        return response, record.finish(response)

    async def acall(self, request: LMRequest, secrets: Mapping[str, Any]) -> tuple[LMResponse, HistoryEntry]:
        """The async twin of `call`."""
        with _recorder.current().start(request, secrets) as record:
            response = await self.inner.acomplete(request, secrets)
        return response, record.finish(response)

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        return self.call(request, secrets)[0]

    async def acomplete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        return (await self.acall(request, secrets))[0]

    def stream(self, request: LMRequest, secrets: Mapping[str, Any]) -> TracedStream:
        """A stream whose record is written when it ends, fails, is closed or is dropped."""
        with _recorder.current().start(request, secrets) as record:
            inner = self.inner.stream(request, secrets)
        return TracedStream(record, inner)

    async def astream(self, request: LMRequest, secrets: Mapping[str, Any]) -> TracedAsyncStream:
        """The async twin of `stream`."""
        with _recorder.current().start(request, secrets) as record:
            inner = await self.inner.astream(request, secrets)
        return TracedAsyncStream(record, inner)


class _Recorded:
    """What both kinds of stream share: the record's end, whichever way it comes."""

    def __init__(self, record: CallRecord, inner: ChunkStream | AsyncChunkStream) -> None:
        self._record = record
        self._inner = inner
        self._dropped = weakref.finalize(self, _drop, record, inner)
        _running.add(self)

    @property
    def response(self) -> LMResponse:
        """What has arrived so far; the whole answer after the last chunk."""
        return self._inner.response

    @property
    def entry(self) -> HistoryEntry | None:
        """The history entry, once the stream has ended in whatever way."""
        return self._record.entry

    def _finished(self) -> None:
        self._dropped.detach()
        self._record.finish(_partial(self._inner))

    def _failed(self, error: BaseException) -> None:
        self._dropped.detach()
        self._record.fail(error, _partial(self._inner))


class TracedStream(_Recorded):
    """A recorded stream: iterate it for chunks."""

    _inner: ChunkStream

    def __init__(self, record: CallRecord, inner: ChunkStream) -> None:
        super().__init__(record, inner)
        self._chunks = iter(inner)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LMChunk:
        try:
            with self._record.step():
                chunk = next(self._chunks)
        except StopIteration:
            self._finished()
            raise
        except BaseException as error:
            self._failed(error)
            raise
        self._record.chunk(chunk)
        return chunk

    def close(self) -> None:
        """Stop early. The record keeps what arrived and says that the stream was dropped."""
        try:
            self._inner.close()
        finally:
            self._dropped()


class TracedAsyncStream(_Recorded):
    """The async twin of `TracedStream`."""

    _inner: AsyncChunkStream

    def __init__(self, record: CallRecord, inner: AsyncChunkStream) -> None:
        super().__init__(record, inner)
        self._chunks = aiter(inner)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LMChunk:
        try:
            with self._record.step():
                chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._finished()
            raise
        except BaseException as error:
            self._failed(error)
            raise
        self._record.chunk(chunk)
        return chunk

    async def aclose(self) -> None:
        """Stop early, as `TracedStream.close` does."""
        try:
            await self._inner.aclose()
        finally:
            self._dropped()


_running: weakref.WeakSet[_Recorded] = weakref.WeakSet()


def drop_running() -> None:
    """At the end of the process: record the streams that nobody will read to their end."""
    for stream in list(_running):
        stream._dropped()


def _drop(record: CallRecord, inner: ChunkStream | AsyncChunkStream) -> None:
    record.abandon(_partial(inner))


def _partial(inner: ChunkStream | AsyncChunkStream) -> LMResponse | None:
    """What had arrived, or None when that is nothing (a response has at least one output)."""
    try:
        return inner.response
    except Exception:
        return None
