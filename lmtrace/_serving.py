"""Who answers instead of the provider: the seam at which replay takes the provider's place.

While a server is active, everything that makes LM calls (`lmtrace.LM`, the wrappers of LiteLLM) hands it the backend it
would have asked and asks the one it gets back. That happens below recording and around retries, so an answer that was
recorded is traced like any other and never tried again. There is one server for the process and not one for a context:
threads that were started before must not reach the network past it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lmtrace._backend import AsyncChunkStream, Backend, ChunkStream
    from lmtrace._data import LMChunk, LMRequest, LMResponse
    from lmtrace._entry import HistoryEntry

SERVED_BY: Final = "lmtrace_served_by"
"""Set on an error that was not the provider's: who raised it."""

RECORDED: Final = "lmtrace_recorded"
"""Set on an error that is raised again: the `CallError` that was recorded of it."""

TimedChunk = tuple[float, "LMChunk"]
"""When a chunk arrived, in milliseconds since the start of its call, and the chunk."""


class Server(Protocol):
    """Answers instead of the provider, or decides that the provider is asked."""

    keeps_rows: bool
    """Whether calls made meanwhile are written to the store."""

    def serve(self, backend: Backend) -> Backend:
        """The backend to ask instead of `backend`, which asks the provider, retries included."""

    def finished(self, entry: HistoryEntry, chunks: Sequence[TimedChunk] | None) -> None:
        """A call made meanwhile is over; `chunks` are those of a stream."""


class Deferred:
    """A backend that is made when it is first asked."""

    def __init__(self, make: Callable[[], Backend]) -> None:
        self._make = make
        self._made: Backend | None = None

    def prepare(self) -> None:
        """Make it now."""
        self._backend()

    def _backend(self) -> Backend:
        if self._made is None:
            self._made = self._make()
        return self._made

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        return self._backend().complete(request, secrets)

    async def acomplete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        return await self._backend().acomplete(request, secrets)

    def stream(self, request: LMRequest, secrets: Mapping[str, Any]) -> ChunkStream:
        return self._backend().stream(request, secrets)

    async def astream(self, request: LMRequest, secrets: Mapping[str, Any]) -> AsyncChunkStream:
        return await self._backend().astream(request, secrets)


_lock = threading.RLock()
_current: Server | None = None


def current() -> Server | None:
    """The server of this process, or None when providers are asked."""
    return _current


def replace(server: Server | None) -> Server | None:
    """Make `server` that of the process and return the one before."""
    global _current
    with _lock:
        before, _current = _current, server
    return before
