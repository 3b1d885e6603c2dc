"""Who answers a request: the seam that everything else wraps.

A backend turns an `LMRequest` into an `LMResponse`. Tracing, retries, caching and replay are backends that hold another
backend, so the way of one call is the order in which they are stacked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Protocol

from lmtrace._data import LMChunk, LMRequest, LMResponse


class ChunkStream(Protocol):
    """A running streamed answer: iterate for chunks, then read the whole."""

    def __iter__(self) -> Iterator[LMChunk]: ...

    def close(self) -> None:
        """Stop early; what arrived so far stays in `response`."""

    @property
    def response(self) -> LMResponse:
        """What has arrived so far, assembled; the final answer once iteration has ended."""


class AsyncChunkStream(Protocol):
    """The async twin of `ChunkStream`."""

    def __aiter__(self) -> AsyncIterator[LMChunk]: ...

    async def aclose(self) -> None: ...

    @property
    def response(self) -> LMResponse: ...


class Backend(Protocol):
    """Something that answers requests. Errors of the provider pass unchanged."""

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        """The answer. `secrets` holds credentials, headers and client objects; it is for the provider only."""

    async def acomplete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse: ...

    def stream(self, request: LMRequest, secrets: Mapping[str, Any]) -> ChunkStream: ...

    async def astream(self, request: LMRequest, secrets: Mapping[str, Any]) -> AsyncChunkStream: ...
