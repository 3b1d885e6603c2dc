"""While answers are recorded, identical requests that a cache may answer make one call of the provider, as they would live.

The first asks, those that come meanwhile wait for its answer, whichever thread or task they are in. A failure is nobody
else's: the next asks, and after two failures everybody for themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Token
from typing import TYPE_CHECKING, Final, Self

from lmtrace_replay._answers import flagged, unflagged
from lmtrace_replay._flights import MOST_WAITS, Flight, Flights, enter, leave
from lmtrace_replay._recording import Recording

if TYPE_CHECKING:
    from lmtrace._data import LMRequest, LMResponse


class Sharing:
    """The answers of a recording session that are under way, and those that have come."""

    def __init__(self) -> None:
        self.flights: Final[Flights[Recording]] = Flights()
        self._answered: Final[dict[bytes, Recording]] = {}

    @property
    def answered(self) -> Mapping[bytes, Recording]:
        """What has come, which a session may not have taken notice of yet."""
        return self._answered

    def land(self, flight: Flight[Recording], found: Recording | None) -> None:
        """End a call."""
        if found is not None:
            self._answered[flight.key] = found
        self.flights.land(flight, found)


class Turn:
    """One request on its way to an answer: another's, or the provider's.

    Args:
        sharing: That of the session.
        key: Says which requests are identical.
        is_async: Whether it is made in an asyncio task.
    """

    def __init__(self, sharing: Sharing, key: str, *, is_async: bool) -> None:
        self.found: Recording | None = None
        """The answer, once there is one."""
        self._sharing = sharing
        self._key = key.encode()
        self._is_async = is_async
        self._flight: Flight[Recording] | None = None
        self._token: Token[tuple[bytes, ...]] | None = None
        self._kept: Recording | None = None
        self._waits = 0

    def next_flight(self) -> Flight[Recording] | None:
        """Whose answer to wait for; None when there is an answer, or when it is this one's turn to ask."""
        if self.found is not None or self._flight is not None or self._waits >= MOST_WAITS:
            return None
        flight, mine = self._sharing.flights.board(self._key, is_async=self._is_async, is_stream=False)
        if not mine:
            return flight if flight.may_wait(is_async=self._is_async) else None
        self._flight = flight
        self.found = self._sharing.answered.get(self._key)  # one may have come since the session was asked
        if self.found is not None:
            self._sharing.land(flight, self.found)
        return None

    def waited_for(self, flight: Flight[Recording]) -> None:
        """Take what the wait has brought."""
        self.found = flight.answer
        self._waits += 1

    def __enter__(self) -> Self:
        self._token = enter(self._key)
        return self

    def __exit__(self, *error: object) -> None:
        if self._token is not None:
            leave(self._token)
        if self._flight is not None:
            self._sharing.land(self._flight, self._kept)

    def keep(self, request: LMRequest, response: LMResponse) -> None:
        """Hand the provider's answer to those that wait: a copy, because the caller may change its own."""
        self._kept = Recording(request=request, response=unflagged(flagged(response)))
