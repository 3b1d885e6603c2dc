"""Recorded answers in the place of a provider's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from lmtrace._backend import AsyncChunkStream, Backend, ChunkStream
from lmtrace._data import LMRequest, LMResponse
from lmtrace._traced import TracedBackend
from lmtrace_replay._answers import answer
from lmtrace_replay._desk import Desk
from lmtrace_replay._recording import Recording
from lmtrace_replay._sharing import Turn
from lmtrace_replay._stream import ReplayAsyncStream, ReplayStream

CHECKS: Final = "lmtrace_checks"
"""In the metadata of a request that is made to verify a recording."""


class ReplayBackend:
    """Answers by recordings, and asks `live` only where the desk says so.

    Args:
        desk: Who decides.
        live: The provider's backend, retries included. Errors that were recorded pass it by.
        timing: Whether streams keep their recorded rhythm.
    """

    def __init__(self, desk: Desk, live: Backend, *, timing: bool = False) -> None:
        self._desk = desk
        self._live = live
        self._timing = timing

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        """The recorded answer.

        Raises:
            LMError: what was recorded is an error.
            ReplayMiss: nothing was recorded.
        """
        found = self._desk.take(request)
        if found is None:
            turn = self._desk.turn(request)
            return self._live.complete(request, secrets) if turn is None else self._shared(turn, request, secrets)
        if self._verifies(found):
            self._compare(found, request, secrets)
        return answer(found, request)

    async def acomplete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        """The async twin of `complete`."""
        found = self._desk.take(request)
        if found is None:
            turn = self._desk.turn(request, is_async=True)
            if turn is None:
                return await self._live.acomplete(request, secrets)
            return await self._ashared(turn, request, secrets)
        if self._verifies(found):
            await self._acompare(found, request, secrets)
        return answer(found, request)

    def stream(self, request: LMRequest, secrets: Mapping[str, Any]) -> ChunkStream:
        """The recorded deltas; what the provider streams passes unchanged."""
        found = self._desk.take(request)
        if found is None:
            return self._live.stream(request, secrets)
        if self._verifies(found):
            self._compare(found, request, secrets)
        return ReplayStream(found, request, timing=self._timing)

    async def astream(self, request: LMRequest, secrets: Mapping[str, Any]) -> AsyncChunkStream:
        """The async twin of `stream`."""
        found = self._desk.take(request)
        if found is None:
            return await self._live.astream(request, secrets)
        if self._verifies(found):
            await self._acompare(found, request, secrets)
        return ReplayAsyncStream(found, request, timing=self._timing)

    def _shared(self, turn: Turn, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        """The answer of an identical request that is under way, or the provider's."""
        while (flight := turn.next_flight()) is not None:
            flight.wait()
            turn.waited_for(flight)
        if turn.found is not None:
            return answer(turn.found, request)
        with turn:
            response = self._live.complete(request, secrets)
            turn.keep(request, response)
        return response

    async def _ashared(self, turn: Turn, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        while (flight := turn.next_flight()) is not None:
            await flight.await_()
            turn.waited_for(flight)
        if turn.found is not None:
            return answer(turn.found, request)
        with turn:
            response = await self._live.acomplete(request, secrets)
            turn.keep(request, response)
        return response

    def _verifies(self, found: Recording) -> bool:
        return self._desk.mode == "verify" and self._desk.samples(found.request_key or found.key())

    def _compare(self, found: Recording, request: LMRequest, secrets: Mapping[str, Any]) -> None:
        """Ask the provider too, recorded as a call of its own: it is billed."""
        try:
            answered: LMResponse | Exception = TracedBackend(self._live).complete(_check_of(request), secrets)
        except Exception as error:
            answered = error
        self._desk.compare(found, answered, request)

    async def _acompare(self, found: Recording, request: LMRequest, secrets: Mapping[str, Any]) -> None:
        try:
            answered: LMResponse | Exception = await TracedBackend(self._live).acomplete(_check_of(request), secrets)
        except Exception as error:
            answered = error
        self._desk.compare(found, answered, request)


def _check_of(request: LMRequest) -> LMRequest:
    return replace(request, stream=False, metadata={**request.metadata, CHECKS: True})
