"""What happens to each request of a session: a recording answers it, the provider does, or it is a miss.

The desk knows the mode and the recordings, and nothing of backends, streams or the process. No mode falls through to the
provider silently: only those that say so answer None, which means "ask the provider".
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NoReturn, get_args

from lmtrace import _paths, _scope, _serving
from lmtrace._data import LMRequest, LMResponse
from lmtrace._record import active_call
from lmtrace_replay._ledger import Ledger
from lmtrace_replay._matching import Recordings
from lmtrace_replay._miss import Reason, ReplayMiss
from lmtrace_replay._recording import Recording
from lmtrace_replay._sharing import Sharing, Turn
from lmtrace_replay._verify import Verdict, compared

Mode = Literal["replay", "record-missing", "rewrite", "verify", "live", "off"]
"""What to do with a request.

``replay``: only recordings answer. ``record-missing``: the provider answers what no recording does. ``rewrite``: the provider
answers everything anew. ``verify``: recordings answer, and the provider is asked as well, to compare. ``live``: the provider
answers and nothing is recorded. ``off``: as if there were no session.
"""

MODES: Final[tuple[str, ...]] = get_args(Mode)
RECORDING: Final = frozenset({"record-missing", "rewrite"})
"""Modes that keep what the provider answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """A recording whose place in the program now asks something else."""

    recorded: Recording
    request: LMRequest
    """What is asked instead."""


Asked = tuple[str, str | None, str | None]
"""The key of a request, and the logical path and the scope it was made in."""


class Desk:
    """Decides who answers.

    Args:
        recordings: What there is to serve, and where new ones are added.
        mode: What to do with a request.
        where: Where the recordings came from, for messages.
        fix: The command that records what is missing, where the caller knows it.
        sample: Which share of the requests ``verify`` asks the provider for; always the same requests.
        cancelled: Keys of requests that were cancelled when the recordings were made.
    """

    def __init__(
        self,
        recordings: Recordings,
        mode: Mode,
        *,
        where: str | None = None,
        fix: str | None = None,
        sample: float = 1.0,
        cancelled: Iterable[str] = (),
    ) -> None:
        self.recordings: Final = recordings
        self.mode: Final = mode
        self.ledger: Final = Ledger()
        self.stale: list[Stale] = []
        self.verdicts: list[Verdict] = []
        self.is_closed = False
        self.heard: Callable[[Recording], object] | None = None
        """Told of each recording that is served."""
        self._cancelled: Final = frozenset(cancelled)
        self._sharing: Final = Sharing()
        self._where = where
        self._fix = fix
        self._sample = sample
        self._lock = threading.RLock()
        self._has_warned = False

    def take(self, request: LMRequest) -> Recording | None:
        """The recording that answers a request; None where the provider is to be asked.

        Raises:
            ReplayMiss: neither is.
        """
        asked = self._asked(request)
        if self.is_closed:
            self._miss(request, asked, "error", fix=_TOO_LATE)
        if self.mode == "live":
            return None
        key, path, scope = asked
        may_repeat = request.metadata.get("cache") is True
        found = self.recordings.take(key, request.rollout_id, path=path, scope=scope, may_repeat=may_repeat)
        if self.recordings.warns_of is not None and not self._has_warned:
            self._warn()
        if found is None and self.mode not in RECORDING:
            self._miss(request, asked)
        if found is not None:
            self._note_hit(found, request, asked)
        return found

    def turn(self, request: LMRequest, *, is_async: bool = False) -> Turn | None:
        """Where the provider is asked and a cache may answer: the turn that identical requests take. Else None."""
        if self.mode not in RECORDING or request.metadata.get("cache") is not True:
            return None
        key, _, _ = self._asked(request)
        return Turn(self._sharing, f"{key} {request.rollout_id}", is_async=is_async)

    def _note_hit(self, found: Recording, request: LMRequest, asked: Asked) -> None:
        if found.response is None and found.error is None:
            self._miss(request, asked, "error")
        if self.heard is not None:
            self.heard(found)
        if found.trace_id is not None and found.span_id is not None:  # cassettes know no ids
            record = active_call()
            if record is not None and record.request is request:
                record.answered_by(found.trace_id, found.span_id)

    def _asked(self, request: LMRequest) -> Asked:
        """Key, path and scope of a request; the record of the call has them already, where there is one."""
        record = active_call()
        if record is not None and record.request is request:
            return self.recordings.key_of(request, record.request_key), record.path, record.scope
        return self.recordings.key_of(request), _paths.current(), _scope.scope()

    def _miss(self, request: LMRequest, asked: Asked, reason: Reason | None = None, fix: str | None = None) -> NoReturn:
        from lmtrace_replay._explain import explain

        key, path, scope = asked
        expected = self.recordings.expected()
        known: Sequence[Recording] = self.recordings.all
        among = None
        if reason is None and expected is not None:
            reason, among = "order", [i for i, recording in enumerate(known) if recording is expected]
        miss = explain(
            request,
            known,
            key=key,
            where=self._where,
            path=path,
            scope=scope,
            reason=reason,
            fix=fix or self._fix,
            normalisers=self.recordings.normalisers,
            among=among,
            thorough=len(self.ledger) < _SEARCHED,
        )
        if self._was_cancelled(request):
            miss = replace(miss, cause=_CANCELLED)
        elif reason is None:
            self._note_stale(request, path, scope)
        error = self.ledger.add(miss)
        setattr(error, _serving.SERVED_BY, "replay")
        raise error

    def _was_cancelled(self, request: LMRequest) -> bool:
        return bool(self._cancelled) and Recording(request=request).key() in self._cancelled

    def _note_stale(self, request: LMRequest, path: str | None, scope: str | None) -> None:
        """Whether the same place of the program asked something else when it was recorded."""
        with self._lock:
            known = {id(stale.recorded) for stale in self.stale}
            for recording in self.recordings.unused:
                if _same_place(recording, path, scope) and id(recording) not in known:
                    self.stale.append(Stale(recorded=recording, request=request))
                    return

    def _warn(self) -> None:
        with self._lock:
            had_warned, self._has_warned = self._has_warned, True
        if had_warned:
            return
        warnings.warn(
            "identical requests with different recorded answers were made in several threads that carry no logical path; "
            "which of them gets which answer depends on scheduling. Give them different rollout_ids, or start them with "
            "threading or concurrent.futures inside the session.",
            UserWarning,
            stacklevel=2,
        )

    def samples(self, key: str) -> bool:
        """Whether a hit is to be compared with a live answer: decided by its key, so always the same ones are."""
        return self.mode == "verify" and int(key.rpartition(":")[2][:8], 16) < self._sample * 2**32

    def compare(self, recording: Recording, answered: LMResponse | Exception, request: LMRequest) -> None:
        """Keep the verdict on a live answer."""
        verdict = compared(recording, answered, request)
        with self._lock:
            self.verdicts.append(verdict)

    def keep(self, recording: Recording) -> None:
        """Add what the provider has just answered. It has been given to its caller, so it is used up already."""
        self.recordings.add(recording, is_used=True)


_SEARCHED: Final = 20
"""Misses of a session for which all recordings are searched for the nearest; of thousands, nobody reads the rest."""

_CANCELLED: Final = (
    "the program cancelled this call when it was recorded (a timeout, as a rule), so it has no answer; give it more time and "
    "record again, or let the test run out of time before it asks"
)

_TOO_LATE: Final = "the session was over when this request was made: wait for threads and tasks before it ends"


def _same_place(recording: Recording, path: str | None, scope: str | None) -> bool:
    if path is not None and recording.path is not None:
        return recording.path == path
    return scope is not None and recording.scope == scope


def swallowed(error: Any) -> bool:
    """Whether a miss has to be raised in the place of `error`, which ended the block (None: nothing did).

    Groups that task groups make of misses count: whoever waits for a `ReplayMiss` does not wait for a group.
    """
    if isinstance(error, BaseExceptionGroup):
        return error.split((Exception, ReplayMiss))[1] is None
    return error is None or (isinstance(error, Exception) and not isinstance(error, ReplayMiss))
