"""One test under replay, from its fixtures to the end of its body: the session, the guard, and what becomes of the cassette.

The end lies inside the call phase. There a miss that the program under test has swallowed still fails the test, a recording
nobody asked for any more is reported like any other outdated snapshot, and a pass allows new answers to be written.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import pytest

from lmtrace._errors import LMTraceError
from lmtrace._visible import visible
from lmtrace_replay._errors import CassetteError
from lmtrace_replay._format import Cassette, dumps, loads
from lmtrace_replay._miss import Miss, ReplayMiss
from lmtrace_replay._own_part import own_part
from lmtrace_replay._plan import plan_of
from lmtrace_replay._scan import refuse_secrets
from lmtrace_replay._session import ReplayRegression, Session
from lmtrace_replay._snapshots import cassette_file
from lmtrace_replay._sockets import SocketGuard
from lmtrace_replay._stale import summary
from lmtrace_replay._tally import Tally
from lmtrace_replay._texts import messages_of, one_line

if TYPE_CHECKING:
    from lmtrace_replay._recording import Recording
    from lmtrace_replay._session import Call

LISTED: Final = 10
"""Unused recordings that are named; of the rest only the number is given."""


class ReplayTest:
    """What a test knows of its replay; the fixture `lm_replay`."""

    def __init__(self, item: pytest.Item) -> None:
        self._nodeid = item.nodeid
        self._plan = plan_of(item)
        self._file = cassette_file(item, self._plan)
        self._shown = os.path.relpath(self._file.path, item.config.rootpath)
        self._content = self._file.read()
        self._cassette = self._loaded()
        self._session = self._new_session()
        self._guard = SocketGuard(self._plan.allow)
        self._is_running = False
        self.has_passed = False
        """Whether the test's body has, and so has compared all that it compares."""
        self.tally = Tally()
        """The counts of this test, once it is over."""

    @classmethod
    def of(cls, item: pytest.Item) -> ReplayTest:
        """The replay of a test; one that cannot begin is an error of the test, without a traceback."""
        try:
            return cls(item)
        except (pytest.UsageError, LMTraceError) as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None

    @property
    def mode(self) -> str:
        """The replay mode of this test."""
        return self._plan.mode

    @property
    def records(self) -> bool:
        """Whether answers of the provider are kept."""
        return self._plan.records

    @property
    def cassette(self) -> Path:
        """Where its answers are recorded, or would be."""
        return self._file.path

    @property
    def calls(self) -> Sequence[Call]:
        """The calls made so far."""
        return self._session.calls

    @property
    def cost(self) -> float | None:
        """What the calls cost, now or when they were recorded, in US dollars; None when that is not known."""
        return self._session.cost

    @property
    def misses(self) -> Sequence[Miss]:
        """The requests that had no recorded answer."""
        return self._session.misses

    def start(self) -> None:
        """Answer from the cassette from now on, and refuse connections."""
        self._session.__enter__()
        self._is_running = True
        if self._plan.is_guarded:
            self._guard.start()

    def failed(self, error: BaseException) -> None:
        """End a test that has failed with `error`; misses are reported with it.

        Raises:
            ReplayMiss: the error was one; the traceback ends where the program asked.
            pytest.fail.Exception: the test was about to be skipped in spite of a miss.
        """
        misses = self._stop()
        if isinstance(error, ReplayMiss):
            raise self._whole(misses or error.misses).with_traceback(own_part(error.__traceback__)) from None
        if misses and isinstance(error, pytest.skip.Exception):
            self._fail(self._missed(misses))
        if misses:
            error.add_note(f"\n{self._missed(misses)}")
        elif self._guard.refused:
            error.add_note(
                f"\nconnections refused while the test replayed: {', '.join(dict.fromkeys(self._guard.refused))}"
            )

    def passed(self) -> None:
        """End a test that has passed: unless something was missing, its new answers are written.

        Raises:
            pytest.fail.Exception: a request had no recorded answer, a recorded answer no request, a live answer is not what
                was recorded, or the new answers cannot be written.
        """
        misses = self._stop()
        if misses:
            self._fail(self._missed(misses))
        regressions = [verdict for verdict in self._session.verdicts if verdict.outcome == "regression"]
        if regressions:
            self._fail(str(ReplayRegression(regressions)))
        try:
            self._write() if self._plan.records else self._check()
        except CassetteError as error:
            self._fail(str(error))
        self.has_passed = True

    def abandon(self) -> None:
        """End a test whose body never ran, or leave one that has ended as it is."""
        self._stop()
        self._file.keep()

    def _loaded(self) -> Cassette | None:
        try:
            return None if self._content is None else loads(self._content, self._shown)
        except CassetteError:
            self._file.keep()
            raise

    def _new_session(self) -> Session:
        plan, cassette = self._plan, self._cassette
        return Session(
            () if cassette is None else cassette.recordings,
            mode=plan.mode,
            rollouts=plan.rollouts,
            order=plan.order,
            normalisers=plan.normalisers,
            where=self._shown,
            fix=self._command(f"--lmtrace-mode={'record-missing' if cassette is None else 'rewrite'}"),
            header=None if cassette is None else cassette.header,
        )

    def _stop(self) -> Sequence[Miss]:
        """End the session and the guard, once; return the misses there were."""
        if not self._is_running:
            return ()
        self._is_running = False
        self._guard.stop()
        self._session.close()
        self._count()
        return self._session.misses

    def _count(self) -> None:
        tally, misses = self.tally, self._session.misses
        served = [call for call in self._session.calls if call.served_by == "replay" and not _is_miss(call)]
        tally.replayed = len(served)
        tally.live = sum(call.served_by == "provider" for call in self._session.calls)
        tally.saved = sum(call.cost or 0.0 for call in served)
        tally.stale = min(len(self._session.stale), len(misses))
        tally.missed = len(misses) - tally.stale
        tally.unrecorded = int(bool(misses) and self._cassette is None)
        tally.outdated = int(bool(misses) and self._cassette is not None)
        tally.again = self._session.expected_cost or 0.0 if misses else 0.0
        for place in self._guard.refused:
            tally.refused[place] = tally.refused.get(place, 0) + 1

    def _write(self) -> None:
        """Keep what was recorded; a cassette that nothing was asked of is left to syrupy, as an unused file."""
        new, recordings = self._session.new, self._session.recordings
        self.tally.cancelled = len(self._session.cancelled)
        if not new and not self._session.cancelled:
            return
        refuse_secrets(recordings, self._shown)
        self._file.settle(dumps(recordings, self._session.header()), write=True)
        self.tally.recorded, self.tally.live = len(new), self.tally.live - len(new)

    def _check(self) -> None:
        """Compare what was asked with what is recorded; a cassette of which nothing was asked is an unused file."""
        unused = self._session.unused if self._file.is_own and self.mode in ("replay", "verify") else ()
        if self._content is None or self._cassette is None or len(unused) == len(self._cassette.recordings):
            return
        text = self._content.decode()
        if unused:
            left_out = {id(recording) for recording in unused}
            used = [recording for recording in self._cassette.recordings if id(recording) not in left_out]
            text = dumps(used, self._cassette.header)
        if not self._file.settle(text):
            self.tally.unused = len(unused)
            self._fail(self._report(unused, len(self._cassette.recordings)))

    def _report(self, unused: Sequence[Recording], count: int) -> str:
        lines = [
            f"{len(unused)} of {count} recordings in {self._file.path.name} are unused: the test does not ask for them any more"
        ]
        lines += [f"  {recording.request.model}  {_end(recording)}" for recording in unused[:LISTED]]
        if len(unused) > LISTED:
            lines.append(f"  … and {len(unused) - LISTED} more")
        return "\n".join([*lines, f"  fix       {self._command('--snapshot-update')}"])

    def _command(self, option: str) -> str:
        return f"pytest {option} {shlex.quote(self._nodeid)}"

    def _whole(self, misses: Sequence[Miss]) -> ReplayMiss:
        """All misses as one, with what has changed since the cassette was made."""
        miss = ReplayMiss(*misses)
        changed = summary(self._session.stale, None if self._cassette is None else self._cassette.header)
        if changed is not None:
            miss.add_note(changed)
        return miss

    def _missed(self, misses: Sequence[Miss]) -> str:
        miss = self._whole(misses)
        return "\n".join([str(miss), *getattr(miss, "__notes__", ())])

    def _fail(self, message: str) -> NoReturn:
        raise pytest.fail.Exception(message, pytrace=False) from None


def _is_miss(call: Call) -> bool:
    return call.error is not None and call.error.type.endswith(".ReplayMiss")


def _end(recording: Recording) -> str:
    """The end of the conversation, on one line that a terminal may show."""
    messages = messages_of(recording.request)
    return visible(one_line(messages[-1].text)) if messages else ""
