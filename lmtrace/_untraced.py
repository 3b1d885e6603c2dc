"""Calls that cannot be recorded, because they come from a finaliser or a signal handler amid the loading of what records.

A module that is being imported further up the same stack is half there, and nothing waits for it: the call is answered, has
its entry in the LM's history, and is counted among the failures. The next one is recorded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Final, Self

from lmtrace._backend import AsyncChunkStream, Backend, ChunkStream
from lmtrace._data import LMChunk, LMRequest, LMResponse
from lmtrace._entry import HistoryEntry, dspy_outputs
from lmtrace._failures import failures
from lmtrace._ids import Uuid7

_loading: Final[set[int]] = set()
_loaded = False
_new_id: Final = Uuid7(time.time_ns)


def can_record() -> bool:
    """Load what records; False when that fails, or when this call comes from amid it."""
    global _loaded
    thread = threading.get_ident()
    if _loaded or thread in _loading:
        return _loaded
    _loading.add(thread)
    try:
        import lmtrace._traced  # noqa: F401
        from lmtrace import _compose

        _compose.load()
        _loaded = True
    except Exception as error:
        failures.note("loading what records", error)
    finally:
        _loading.discard(thread)
    return _loaded


class UntracedBackend:
    """Answers as `inner` does, in the manner of `TracedBackend`."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        failures.note("recording a call made amid the first one", RuntimeError())

    def call(self, request: LMRequest, secrets: Mapping[str, Any]) -> tuple[LMResponse, HistoryEntry]:
        """The answer and an entry for the history of the LM."""
        begun = time.time_ns()
        response = self.inner.complete(request, secrets)
        return response, _entry(request, response, begun)

    async def acall(self, request: LMRequest, secrets: Mapping[str, Any]) -> tuple[LMResponse, HistoryEntry]:
        """The async twin of `call`."""
        begun = time.time_ns()
        response = await self.inner.acomplete(request, secrets)
        return response, _entry(request, response, begun)

    def stream(self, request: LMRequest, secrets: Mapping[str, Any]) -> UntracedStream:
        """A stream that leaves no record."""
        return UntracedStream(self.inner.stream(request, secrets))

    async def astream(self, request: LMRequest, secrets: Mapping[str, Any]) -> UntracedAsyncStream:
        """The async twin of `stream`."""
        return UntracedAsyncStream(await self.inner.astream(request, secrets))


def _entry(request: LMRequest, response: LMResponse, begun: int) -> HistoryEntry:
    return HistoryEntry(
        uuid=_new_id(),
        timestamp_ns=begun,
        duration_ms=(time.time_ns() - begun) / 1e6,
        request=request,
        response=response,
        outputs=dspy_outputs(response.outputs),
    )


class UntracedStream:
    """The chunks of a backend's stream."""

    entry = None

    def __init__(self, inner: ChunkStream) -> None:
        self._inner = inner
        self._chunks = iter(inner)

    @property
    def response(self) -> LMResponse:
        """What has arrived so far."""
        return self._inner.response

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LMChunk:
        return next(self._chunks)

    def close(self) -> None:
        """Stop early."""
        self._inner.close()


class UntracedAsyncStream:
    """The async twin of `UntracedStream`."""

    entry = None

    def __init__(self, inner: AsyncChunkStream) -> None:
        self._inner = inner
        self._chunks = aiter(inner)

    @property
    def response(self) -> LMResponse:
        """What has arrived so far."""
        return self._inner.response

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LMChunk:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """Stop early."""
        await self._inner.aclose()
