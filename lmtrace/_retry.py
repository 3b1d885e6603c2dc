"""The backend that tries again: transient failures only, with exponential backoff, jitter and the provider's Retry-After.

The way of a call that succeeds has one ``try`` in it and nothing else. What passes out in the end is the provider's own
last error, unchanged but for a count of the attempts. A stream is opened again only until its first chunk: what the reader
has seen is never repeated.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, Self

from lmtrace._backend import AsyncChunkStream, Backend, ChunkStream
from lmtrace._data import LMChunk, LMRequest, LMResponse
from lmtrace._error_facts import retry_after
from lmtrace._provider_errors import ATTEMPTS_ATTRIBUTE, is_transient
from lmtrace._sleep import asleep as wait_in_task

FIRST_DELAY_S: Final = 0.5
LONGEST_DELAY_S: Final = 10.0
LONGEST_ASKED_S: Final = 60.0
"""A provider that asks to wait longer than this is not asked again: the caller decides."""


class RetryBackend:
    """Answers as `inner` does, and asks it again when it fails in a way that may pass.

    Args:
        inner: The backend that is asked.
        num_retries: How often to ask again at most; 0 turns retries off.
        sleep: Waits, given seconds.
        asleep: Its async twin; that of the running event loop when not given.
        rng: A number from 0 up to 1, for the jitter.
    """

    def __init__(
        self,
        inner: Backend,
        num_retries: int = 3,
        *,
        sleep: Callable[[float], object] = time.sleep,
        asleep: Callable[[float], Awaitable[object]] | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.inner = inner
        self.num_retries = num_retries
        self.sleep = sleep
        self.asleep = wait_in_task if asleep is None else asleep
        self.rng = rng

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        failed = 0
        while True:
            try:
                return self.inner.complete(request, secrets)
            except Exception as error:
                failed += 1
                delay = self._delay(error, failed)
                if delay is None:
                    raise
            self.sleep(delay)

    async def acomplete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        failed = 0
        while True:
            try:
                return await self.inner.acomplete(request, secrets)
            except Exception as error:
                failed += 1
                delay = self._delay(error, failed)
                if delay is None:
                    raise
            await self.asleep(delay)

    def stream(self, request: LMRequest, secrets: Mapping[str, Any]) -> ChunkStream:
        stream = _RetryStream(self, request, secrets)
        stream.open()
        return stream

    async def astream(self, request: LMRequest, secrets: Mapping[str, Any]) -> AsyncChunkStream:
        stream = _AsyncRetryStream(self, request, secrets)
        await stream.open()
        return stream

    def _delay(self, error: Exception, failed: int) -> float | None:
        """Seconds until the next try after the `failed`-th failure, or None when there is to be none."""
        with suppress(Exception):  # an exception class may forbid new attributes
            setattr(error, ATTEMPTS_ATTRIBUTE, failed)
        if failed > self.num_retries or not is_transient(error):
            return None
        asked = retry_after(error) or 0.0
        if asked > LONGEST_ASKED_S:
            return None
        delay = max(asked, self._backoff(failed))
        _note_attempt(error, delay)
        return delay

    def _backoff(self, failed: int) -> float:
        """Half a second, doubled with each failure, up to half of it taken off so that many callers do not return at once."""
        return min(FIRST_DELAY_S * 2.0 ** (failed - 1), LONGEST_DELAY_S) * (1.0 - self.rng() / 2)


def _note_attempt(error: Exception, delay: float) -> None:
    """Tell the record of the running call, when there is one."""
    active_call = getattr(sys.modules.get("lmtrace._record"), "active_call", None)  # it may be loading just now
    record = None if active_call is None else active_call()
    if record is not None:
        record.attempt(error, delay)


class _Opening:
    """What both kinds of stream share: the count of failures, and when trying again ends."""

    def __init__(self, policy: RetryBackend, request: LMRequest, secrets: Mapping[str, Any]) -> None:
        self._policy = policy
        self._request = request
        self._secrets = secrets
        self._failed = 0
        self._begun = False

    def _next_delay(self, error: Exception) -> float | None:
        if self._begun:
            return None
        self._failed += 1
        return self._policy._delay(error, self._failed)


class _RetryStream(_Opening):
    _inner: ChunkStream

    def open(self) -> None:
        while True:
            try:
                self._inner = self._policy.inner.stream(self._request, self._secrets)
                self._chunks = iter(self._inner)
                return
            except Exception as error:
                delay = self._next_delay(error)
                if delay is None:
                    raise
            self._policy.sleep(delay)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> LMChunk:
        while True:
            try:
                chunk = next(self._chunks)
            except StopIteration:
                raise
            except Exception as error:
                delay = self._next_delay(error)
                if delay is None:
                    raise
            else:
                self._begun = True
                return chunk
            self._policy.sleep(delay)
            self.open()

    def close(self) -> None:
        self._inner.close()

    @property
    def response(self) -> LMResponse:
        return self._inner.response


class _AsyncRetryStream(_Opening):
    _inner: AsyncChunkStream

    async def open(self) -> None:
        while True:
            try:
                self._inner = await self._policy.inner.astream(self._request, self._secrets)
                self._chunks = aiter(self._inner)
                return
            except Exception as error:
                delay = self._next_delay(error)
                if delay is None:
                    raise
            await self._policy.asleep(delay)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> LMChunk:
        while True:
            try:
                chunk = await anext(self._chunks)
            except StopAsyncIteration:
                raise
            except Exception as error:
                delay = self._next_delay(error)
                if delay is None:
                    raise
            else:
                self._begun = True
                return chunk
            await self._policy.asleep(delay)
            await self.open()

    async def aclose(self) -> None:
        await self._inner.aclose()

    @property
    def response(self) -> LMResponse:
        return self._inner.response
