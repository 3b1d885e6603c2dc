"""What the provider will do next: a queue of scripted outcomes, then whatever answers everything else."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from lmtrace.testing._provider._canned import canned_reply
from lmtrace.testing._provider._reply import Failure, Reply
from lmtrace.testing._provider._request import ReceivedRequest

Outcome = Reply | Failure
Responder = Callable[[ReceivedRequest], Outcome | str]


class Script:
    """First in, first out; safe to fill while requests come in."""

    def __init__(self) -> None:
        self._queue: deque[Outcome] = deque()
        self._lock = threading.Lock()
        self._responder: Responder = canned_reply
        self._held: list[threading.Event] = []
        self._ended = False

    def add(self, outcome: Outcome) -> None:
        """Queue one outcome."""
        with self._lock:
            self._queue.append(outcome)
            if isinstance(outcome, Failure) and outcome.until is not None:
                self._held.append(outcome.until)

    def answer_with(self, responder: Responder) -> None:
        """Let `responder` answer what the queue does not."""
        with self._lock:
            self._responder = responder

    def next(self, request: ReceivedRequest) -> Outcome:
        """The outcome of one request; a responder that raises is told to the client as status 500."""
        with self._lock:
            if self._queue:
                return self._queue.popleft()
            responder = self._responder
        try:
            outcome = responder(request)
        except Exception as error:  # a broken responder must be seen where the test looks: in the client's error
            return Failure(message=f"respond() raised {type(error).__name__}: {error}")
        return Reply(text=outcome) if isinstance(outcome, str) else outcome

    def hold(self, until: threading.Event | None) -> bool:
        """Wait for an event; False when the provider was closed meanwhile, which ends every wait."""
        event = until or threading.Event()
        with self._lock:
            self._held.append(event)
            if self._ended:
                event.set()
        event.wait()
        return not self._ended

    def end(self) -> None:
        """Release everything that waits."""
        with self._lock:
            self._ended = True
            held = list(self._held)
        for event in held:
            event.set()
