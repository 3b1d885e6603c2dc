"""The backend that answers from the cache: it stands between recording and retries.

A hit is recorded like any call, as `served_by` ``cache``. The sync and the async way share everything but the waiting: an
`_Asking` looks, says whose answer to wait for, and keeps what the provider gave. Errors pass unchanged and are never kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from typing import Any, Self

from lmtrace import _serving
from lmtrace._backend import AsyncChunkStream, Backend, ChunkStream
from lmtrace._caching import LITELLM
from lmtrace._data import LMRequest, LMResponse
from lmtrace._failures import failures
from lmtrace._record import key_of
from lmtrace_replay._cache import Cache, entry_key, is_exact
from lmtrace_replay._cached import CachedAnswer, Step, is_whole
from lmtrace_replay._cached_stream import CachedAsyncStream, CachedStream, KeepingAsyncStream, KeepingStream
from lmtrace_replay._flights import MOST_WAITS, Flight, enter, leave


class CacheBackend:
    """Answers from the cache, and otherwise as `inner` does.

    Args:
        inner: The backend that is asked.
        cache: Gives the cache of the process, or None when there is none.
        name: Under what name answers are kept beside those of other backends.
        shared: Whether other processes may have them; the name must then mean the same to all.
    """

    def __init__(
        self, inner: Backend, cache: Callable[[], Cache | None], *, name: str = LITELLM, shared: bool = True
    ) -> None:
        self.inner = inner
        self._cache = cache
        self._name = name
        self._shared = shared

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        asking = self._asking(request, secrets)
        if asking is None:
            return self.inner.complete(request, secrets)
        while (flight := asking.next_flight()) is not None:
            asking.waited_for(flight, flight.wait())
        if asking.answer is not None:
            return asking.answer.response()
        with asking:
            response = self.inner.complete(request, secrets)
            asking.keep(response)
        return response

    async def acomplete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        asking = self._asking(request, secrets, is_async=True)
        if asking is None:
            return await self.inner.acomplete(request, secrets)
        while (flight := asking.next_flight()) is not None:
            asking.waited_for(flight, await flight.await_())
        if asking.answer is not None:
            return asking.answer.response()
        with asking:
            response = await self.inner.acomplete(request, secrets)
            asking.keep(response)
        return response

    def stream(self, request: LMRequest, secrets: Mapping[str, Any]) -> ChunkStream:
        asking = self._asking(request, secrets, is_stream=True)
        if asking is None:
            return self.inner.stream(request, secrets)
        while (flight := asking.next_flight()) is not None:
            asking.waited_for(flight, flight.wait())
        if asking.answer is not None:
            return CachedStream(asking.answer)
        with asking.opening():
            return KeepingStream(self.inner.stream(request, secrets), asking.stepped, asking.ended)

    async def astream(self, request: LMRequest, secrets: Mapping[str, Any]) -> AsyncChunkStream:
        asking = self._asking(request, secrets, is_async=True, is_stream=True)
        if asking is None:
            return await self.inner.astream(request, secrets)
        while (flight := asking.next_flight()) is not None:
            asking.waited_for(flight, await flight.await_())
        if asking.answer is not None:
            return CachedAsyncStream(asking.answer)
        with asking.opening():
            return KeepingAsyncStream(await self.inner.astream(request, secrets), asking.stepped, asking.ended)

    def holds(self, request: LMRequest) -> bool:
        """Whether the answer is kept already, so that nobody will be asked."""
        asking = self._asking(request, {})
        return asking is not None and asking.answer is not None

    def _asking(
        self, request: LMRequest, secrets: Mapping[str, Any], *, is_async: bool = False, is_stream: bool = False
    ) -> _Asking | None:
        """What asks for `request`, or None when the cache has nothing to do with it."""
        if not request.metadata.get("cache") or _serving.current() is not None:
            return None
        try:
            cache = self._cache()
            if cache is None or not is_exact(request):
                return None
            key = entry_key(key_of(request), request.rollout_id, self._name)
            return _Asking(cache, key, secrets, shared=self._shared, is_async=is_async, is_stream=is_stream)
        except Exception as error:
            failures.note("asking the cache", error)
            return None


class _Asking:
    """One request on its way to an answer: the cache's, another call's, or the provider's."""

    def __init__(
        self, cache: Cache, key: bytes, secrets: Mapping[str, Any], *, shared: bool, is_async: bool, is_stream: bool
    ) -> None:
        self._cache = cache
        self._key = key
        self._secrets = secrets
        self._shared = shared
        self._is_async = is_async
        self._is_stream = is_stream
        self._flight: Flight[CachedAnswer] | None = None
        self._kept: CachedAnswer | None = None
        self._token: Token[tuple[bytes, ...]] | None = None
        self._waits = 0
        self.answer = cache.find(key, shared=shared)
        """The answer, once there is one that need not be asked for."""

    def next_flight(self) -> Flight[CachedAnswer] | None:
        """Whose answer to wait for; None when there is an answer, or when it is this one's turn to ask."""
        if self.answer is not None or self._flight is not None or self._waits >= MOST_WAITS:
            return None
        flights = self._cache.flights
        flight, mine = flights.board(self._key, is_async=self._is_async, is_stream=self._is_stream)
        if not mine:
            return flight if flight.may_wait(is_async=self._is_async) else None
        self._flight = flight
        self.answer = self._cache.find(self._key, shared=self._shared)  # one may have landed since the first look
        if self.answer is not None:
            flights.land(flight, self.answer)
        return None

    def waited_for(self, flight: Flight[CachedAnswer], landed: bool) -> None:  # noqa: FBT001
        """Take what the wait has brought; who waits for one that stands still waits no more."""
        self.answer = flight.answer
        self._waits = self._waits + 1 if landed else MOST_WAITS

    # --- while the provider is asked -------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._token = enter(self._key)
        return self

    def __exit__(self, *error: object) -> None:
        if self._token is not None:
            leave(self._token)
        self._land()

    def keep(self, response: LMResponse, steps: Sequence[Step] = ()) -> None:
        """Keep what the provider gave."""
        if not getattr(response, "cache_hit", True):
            self._kept = self._cache.keep(self._key, response, self._secrets, steps, shared=self._shared)

    def _land(self) -> None:
        if self._flight is not None:
            self._cache.flights.land(self._flight, self._kept)

    # --- while a stream runs ---------------------------------------------------------------------------------------

    def opening(self) -> _Opening:
        """Land when the stream cannot be opened; afterwards the stream itself does."""
        return _Opening(self)

    def stepped(self) -> None:
        """A chunk has arrived."""
        if self._flight is not None:
            self._flight.steps += 1

    def ended(self, response: LMResponse | None, steps: Sequence[Step]) -> None:
        """The stream has ended, by itself if there is a `response`."""
        try:
            if response is not None and is_whole(response):
                self.keep(response, steps)
        finally:
            self._land()


class _Opening:
    def __init__(self, asking: _Asking) -> None:
        self._asking = asking

    def __enter__(self) -> None:
        self._asking.__enter__()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._asking._token is not None:
            leave(self._asking._token)
        if error is not None:
            self._asking._land()
