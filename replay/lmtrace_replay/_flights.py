"""Identical requests at the same time make one call of the provider: the first asks, the others wait for its answer.

Threads and tasks wait for each other, mixed as they come. Nobody waits for itself, which would be for ever: a request made
from inside the very call it is identical to, and one that would block the event loop its answer comes from, ask for
themselves. A stream goes as fast as its reader, so who waits for one gives up when it stands still.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from lmtrace._sleep import running_trio

if TYPE_CHECKING:
    import asyncio

Answer = TypeVar("Answer")

MOST_WAITS: Final = 2
"""How many failed calls of others one waits for before asking for itself, so that a provider's outage does not queue up."""

LONGEST_WAIT_S: Final = 600.0
"""How long to wait for an answer that is not streamed; providers are given up after that time, too."""

LONGEST_PAUSE_S: Final = 5.0
"""How long a stream may stand still before those who wait for it ask for themselves."""

_inside: ContextVar[tuple[bytes, ...]] = ContextVar("lmtrace.cache_inside", default=())
"""The requests whose answers this task, or one that started it, is getting from the provider."""


class Flight(Generic[Answer]):
    """One call of the provider, and who waits for it."""

    __slots__ = ("_landed", "_lock", "_wakers", "answer", "is_async", "is_stream", "key", "steps", "thread")

    def __init__(self, key: bytes, lock: threading.RLock, *, is_async: bool, is_stream: bool) -> None:
        self.key = key
        self.answer: Answer | None = None
        """What the call brought, after it has ended; None when that is nothing others can use."""
        self.is_async = is_async
        self.is_stream = is_stream
        self.steps = 0
        """Chunks that have arrived."""
        self.thread = threading.get_ident()
        self._lock = lock
        self._landed = False
        self._wakers: list[Callable[[], object]] = []

    def may_wait(self, *, is_async: bool) -> bool:
        """Whether waiting in this place lets the flight go on."""
        same_thread = self.thread == threading.get_ident()
        return self.key not in _inside.get() and not (same_thread and not (is_async and self.is_async))

    def wait(self) -> bool:
        """Wait until the flight has ended; False when it stands still."""
        event = threading.Event()
        self._on_landing(event.set)
        patience = self._patience()
        seen = -1
        while seen != self.steps:
            seen = self.steps
            if event.wait(patience):
                return True
        return False

    async def await_(self) -> bool:
        """The async twin of `wait`. Cancelling it touches nobody else."""
        trio = running_trio()
        if trio is not None:
            return await self._await_in_trio(trio)
        import asyncio

        loop = asyncio.get_running_loop()
        landed: asyncio.Future[None] = loop.create_future()
        self._on_landing(lambda: _wake(loop, landed))
        patience = self._patience()
        seen = -1
        while seen != self.steps:
            seen = self.steps
            done, _ = await asyncio.wait((landed,), timeout=patience)
            if done:
                return True
        return False

    async def _await_in_trio(self, trio: Any) -> bool:
        landed, token = trio.Event(), trio.lowlevel.current_trio_token()
        self._on_landing(lambda: _wake_in_trio(trio, token, landed))
        seen = -1
        while seen != self.steps:
            seen = self.steps
            with trio.move_on_after(self._patience()):
                await landed.wait()
                return True
        return False

    def _patience(self) -> float:
        return LONGEST_PAUSE_S if self.is_stream else LONGEST_WAIT_S

    def _on_landing(self, waker: Callable[[], object]) -> None:
        with self._lock:
            if not self._landed:
                self._wakers.append(waker)
                return
        waker()

    def _land(self, answer: Answer | None) -> list[Callable[[], object]]:
        """Mark the end, under the lock; returns whom to tell."""
        if not self._landed:
            self._landed = True
            self.answer = answer
        wakers, self._wakers = self._wakers, []
        return wakers


def _wake(loop: asyncio.AbstractEventLoop, landed: asyncio.Future[None]) -> None:
    with suppress(RuntimeError):  # the loop has closed, and with it everything that waited there
        loop.call_soon_threadsafe(_set, landed)


def _set(landed: asyncio.Future[None]) -> None:
    if not landed.done():
        landed.set_result(None)


def _wake_in_trio(trio: Any, token: Any, landed: Any) -> None:
    with suppress(trio.RunFinishedError):
        token.run_sync_soon(landed.set)


class Flights(Generic[Answer]):
    """The calls of the provider under way in this process."""

    def __init__(self) -> None:
        self.in_child()

    def in_child(self) -> None:
        """After a fork: what was under way is under way in the parent only."""
        self._lock = threading.RLock()  # a stream's finaliser may land it wherever this thread happens to be
        self._flying: dict[bytes, Flight[Answer]] = {}

    def board(self, key: bytes, *, is_async: bool, is_stream: bool) -> tuple[Flight[Answer], bool]:
        """The flight for `key`, and whether it is the caller's to make."""
        with self._lock:
            flight = self._flying.get(key)
            if flight is not None:
                return flight, False
            flight = self._flying[key] = Flight(key, self._lock, is_async=is_async, is_stream=is_stream)
        return flight, True

    def land(self, flight: Flight[Answer], answer: Answer | None) -> None:
        """End a flight; a second time changes nothing."""
        with self._lock:
            if self._flying.get(flight.key) is flight:
                del self._flying[flight.key]
            wakers = flight._land(answer)
        for wake in wakers:
            wake()


def enter(key: bytes) -> Token[tuple[bytes, ...]]:
    """Say that the provider is asked for `key` in this task; `leave` takes what this returns."""
    return _inside.set((*_inside.get(), key))


def leave(token: Token[tuple[bytes, ...]]) -> None:
    """The provider has answered."""
    _inside.reset(token)
