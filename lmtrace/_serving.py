"""Who answers instead of the provider: the seam at which replay takes the provider's place.

While a server is active, everything that makes LM calls (`lmtrace.LM`, the wrappers of LiteLLM) hands it the backend it
would have asked and asks the one it gets back. That happens below recording and around retries, so an answer that was
recorded is traced like any other and never tried again. There is one server for the process and not one for a context:
threads that were started before must not reach the network past it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmtrace._backend import Backend
    from lmtrace._data import LMChunk
    from lmtrace._entry import HistoryEntry

SERVED_BY: Final = "lmtrace_served_by"
"""Set on an error that was not the provider's: who raised it."""

RECORDED_TYPE: Final = "lmtrace_recorded_type"
"""Set on an error that was raised again: the class it had when it was recorded."""

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


_lock = threading.Lock()
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
