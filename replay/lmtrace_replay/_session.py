"""A stretch of a program in which recordings answer instead of the provider: ``with lmtrace.replay(...)``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from lmtrace import _serving, _settings
from lmtrace._backend import Backend
from lmtrace._entry import HistoryEntry
from lmtrace._errors import LMTraceError, SettingsError
from lmtrace.integrations import tasks
from lmtrace.integrations.dspy import _install as dspy
from lmtrace.integrations.litellm import _patch as litellm
from lmtrace_replay._answers import unflagged
from lmtrace_replay._askers import placed
from lmtrace_replay._backend import CHECKS, ReplayBackend
from lmtrace_replay._desk import MODES, RECORDING, Desk, Mode, Stale, swallowed
from lmtrace_replay._matching import Order, Recordings, Rollouts
from lmtrace_replay._miss import Miss, ReplayMiss
from lmtrace_replay._recording import Normaliser, Recording
from lmtrace_replay._verify import Verdict

if TYPE_CHECKING:
    from lmtrace._paths import Root
    from lmtrace._serving import TimedChunk
    from lmtrace_replay._format import Header

Call = HistoryEntry
"""One finished call of a session."""

_CANCELLED: Final = "asyncio.exceptions.CancelledError"

_NEVER_KEPT: Final = frozenset({_CANCELLED, "KeyboardInterrupt", "SystemExit", "GeneratorExit"})
"""Errors that say something about the program's end and nothing about the model."""


class ReplayRegression(LMTraceError):  # noqa: N818 - what it found, not what went wrong
    """Live answers differ in structure from recorded ones; `verdicts` holds them."""

    def __init__(self, verdicts: Sequence[Verdict]) -> None:
        self.verdicts = tuple(verdicts)
        lines = [f"  {verdict.request.model}: {'; '.join(verdict.differences)}" for verdict in verdicts]
        super().__init__("\n".join([f"{len(lines)} live answers are not what was recorded:", *lines]))


class Session:
    """Recordings in the provider's place, for the whole process, from ``with`` to its end.

    Args:
        recordings: What there is to serve.
        mode: What to do with a request; see `lmtrace_replay.Mode`.
        rollouts: How rollout ids are compared.
        order: ``"strict"`` to have requests come in the recorded order.
        normalisers: What makes texts equal before requests are compared: functions of a text, applied to recorded and
            live requests alike.
        timing: Whether streams keep their recorded rhythm.
        sample: Which share of the requests ``verify`` asks the provider for.
        store: Whether calls are written to the store; unless asked, not while pytest runs a test.
        where: Where the recordings came from, for messages.
        fix: The command that records what is missing, for messages.
        header: What the recordings were made with, for the report of outdated ones.
        save: Writes the recordings at the end of a block that recorded something and did not fail.

    Raises:
        SettingsError: the mode does not exist.
    """

    def __init__(
        self,
        recordings: Iterable[Recording] = (),
        *,
        mode: Mode = "replay",
        rollouts: Rollouts = "exact",
        order: Order = "any",
        normalisers: Sequence[Normaliser] = (),
        timing: bool = False,
        sample: float = 1.0,
        store: bool | None = None,
        where: str | None = None,
        fix: str | None = None,
        header: Header | None = None,
        save: Callable[[Sequence[Recording], Header], object] | None = None,
    ) -> None:
        if mode not in MODES:
            raise SettingsError(f"mode is one of {', '.join(MODES)}, not {mode!r}")
        self.mode: Final = mode
        self.keeps_rows = "PYTEST_CURRENT_TEST" not in os.environ if store is None else store
        self.calls: list[Call] = []
        """The finished calls, in the order in which they ended."""
        self._before = list(recordings)
        served = () if mode == "rewrite" else self._before
        self._desk = Desk(
            Recordings(served, rollouts=rollouts, order=order, normalisers=(*normalisers, *_redactors())),
            mode,
            where=where,
            fix=fix,
            sample=sample,
            cancelled=() if header is None else header.cancelled,
        )
        self._cancelled: dict[str, None] = {}
        self._made: list[Recording] = []
        self._repeated: list[Recording] = []
        self._header = header
        self._save = save
        self._timing = timing
        self._outer: _serving.Server | None = None
        self._root: Root | None = None
        self._is_open = False

    # --- what there is to know ---------------------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether the block was left: requests that still come are refused."""
        return self._desk.is_closed

    @property
    def cost(self) -> float | None:
        """What the calls cost, now or when they were recorded, in US dollars; None when no price is known."""
        return _sum(call.cost for call in self.calls)

    @property
    def billed_cost(self) -> float | None:
        """What was spent in this session."""
        return _sum(call.billed_cost for call in self.calls)

    @property
    def misses(self) -> tuple[Miss, ...]:
        """The requests that nothing answered."""
        return self._desk.ledger.misses

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What ``verify`` found."""
        return tuple(self._desk.verdicts)

    @property
    def stale(self) -> tuple[Stale, ...]:
        """Recordings whose place in the program asked something else this time."""
        return tuple(self._desk.stale)

    @property
    def unused(self) -> list[Recording]:
        """Recordings that no request asked for."""
        return self._desk.recordings.unused

    @property
    def new(self) -> list[Recording]:
        """What the provider answered in this session, in the order in which it was asked."""
        return sorted(self._made, key=lambda recording: recording.timestamp_ns)

    @property
    def recordings(self) -> list[Recording]:
        """What belongs into the cassette after this session: what was there, unless it was rewritten, and what is new."""
        before = [] if self.mode == "rewrite" else self._before
        return [*before, *placed(self.new, self._repeated, before), *self._copies()]

    @property
    def cancelled(self) -> Sequence[str]:
        """Keys of the requests that this session would have recorded, had the program not cancelled them."""
        return list(self._cancelled)

    def header(self) -> Header:
        """What a cassette of `recordings` says they were made with."""
        from lmtrace_replay._header import current_header

        before = () if self._header is None or self.mode == "rewrite" else self._header.cancelled
        return current_header(self.recordings, {*before, *self._cancelled})

    def _copies(self) -> Iterator[Recording]:
        """Recordings for tasks that were given another task's answer, as by a cache, where there were several to give.

        Identical requests that may be cached, made at the same time, have an answer each; which of them a later task got
        depended on their race, and must not a second time.
        """
        seen: set[tuple[str, str | None, str | None]] = set()
        for recording in self._repeated:
            rollout = None if recording.rollout_id is None else str(recording.rollout_id)
            task = (recording.key_when_asked(self._desk.recordings.normalisers), rollout, recording.path)
            if task not in seen and not self._desk.recordings.is_told_apart(recording):
                seen.add(task)
                yield recording

    @property
    def expected_cost(self) -> float | None:
        """What the recordings there were cost when they were made: about what ``rewrite`` will cost, in US dollars."""
        return _sum(recording.response.cost for recording in self._before if recording.response is not None)

    # --- what the core asks (lmtrace._serving.Server) ------------------------------------------------------------------

    def serve(self, backend: Backend) -> Backend:
        """Recordings in the place of `backend`."""
        return ReplayBackend(self._desk, backend, timing=self._timing)

    def finished(self, entry: HistoryEntry, chunks: Sequence[TimedChunk] | None) -> None:
        """Note a call, and keep what the provider answered where this session records."""
        if CHECKS in entry.request.metadata:
            return
        self.calls.append(entry)
        error = entry.error
        if self.mode not in RECORDING or self._desk.is_closed:
            return
        if entry.served_by == "replay":  # a cache of the program's own is another matter: recorded like the provider
            if entry.path is not None and entry.response is not None and error is None:
                self._repeated.append(replace(Recording.from_entry(entry, chunks), response=unflagged(entry.response)))
            return
        recording = Recording.from_entry(entry, chunks)
        if error is not None and error.type == _CANCELLED:
            self._cancelled.setdefault(recording.key())
        if (error is None and entry.response is None) or (error is not None and error.type in _NEVER_KEPT):
            return
        self._made.append(recording)
        self._desk.keep(recording)

    # --- its beginning and its end -------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._is_open or self._desk.is_closed:
            raise SettingsError("a replay session is entered once; make another one")
        if self.mode != "off":
            dspy.prepare()  # refuses a version it does not know, before anything has begun
        self._is_open = True
        if self.mode != "off":
            self._outer = _serving.replace(self)
            litellm.prepare()
            if self.mode != "live":
                self._root = self._begin_labels()
        return self

    def _begin_labels(self) -> Root:
        return tasks.start()

    def close(self) -> None:
        """Let providers answer again. Requests that were begun before and ask now are misses."""
        if not self._is_open:
            return
        self._is_open = False
        self._desk.is_closed = True
        if self._root is not None:
            tasks.stop(self._root)
        if self.mode != "off":
            dspy.release()
            litellm.release()
            if _serving.current() is self:
                _serving.replace(self._outer)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if swallowed(error):
            self._settle()
        elif isinstance(error, ReplayMiss):
            self._explain(error)
        if error is None:
            self._check()
            if (
                self._save is not None
                and self.mode in RECORDING
                and (self._made or self._cancelled or self.mode == "rewrite")
            ):
                self._save(self.recordings, self.header())

    def _settle(self) -> None:
        """Raise the misses that somebody caught.

        Raises:
            ReplayMiss: there were some.
        """
        try:
            self._desk.ledger.settle()
        except ReplayMiss as miss:
            self._explain(miss)
            raise

    def _explain(self, miss: ReplayMiss) -> None:
        from lmtrace_replay._stale import summary

        text = summary(self.stale, self._header)
        if text is not None:
            miss.add_note(text)

    def _check(self) -> None:
        regressions = [verdict for verdict in self.verdicts if verdict.outcome == "regression"]
        if regressions:
            raise ReplayRegression(regressions)


def _redactors() -> Iterator[Normaliser]:
    """The user's redactors: what they removed from recorded requests has to be removed from live ones as well."""
    from lmtrace._redactor import as_callable

    return map(as_callable, _settings.current().redact)


def _sum(costs: Iterable[float | None]) -> float | None:
    """Nothing is free that has no price: the sum of those that are known, or None when none is."""
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known else None
