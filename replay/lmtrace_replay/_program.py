"""A program under ``lmtrace replay``: what begins in each of its processes, and what they leave for the command to sum up.

The command has written its settings into a private folder. Each process answers from the whole cassette: what one was
served is not used up in another. What happened is appended call by call, because a process may be ended without a word.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from lmtrace.integrations import tasks
from lmtrace_replay._askers import placed
from lmtrace_replay._cassette import load
from lmtrace_replay._last import remember
from lmtrace_replay._miss import Miss, ReplayMiss
from lmtrace_replay._own_part import own_part
from lmtrace_replay._recording import Normaliser, Recording
from lmtrace_replay._report import report
from lmtrace_replay._session import Session
from lmtrace_replay._sockets import SocketGuard
from lmtrace_replay._tally import Tally

if TYPE_CHECKING:
    from lmtrace._entry import HistoryEntry
    from lmtrace._paths import Root
    from lmtrace._serving import TimedChunk

T = TypeVar("T")

_IN_LABELS = frozenset("0123456789.+")

SETTINGS = "replay.json"
"""The file with the settings; without it nothing is replayed, whatever the environment says."""


def start(folder: str) -> None:
    """Replay from now to the end of this process, as the settings in `folder` say.

    Raises:
        CassetteError: the cassette cannot be read.
    """
    settings = json.loads(Path(folder, SETTINGS).read_text(encoding="utf-8"))
    session = _ReportingSession(Path(folder), settings)
    guard = SocketGuard(settings["allow"])
    atexit.register(guard.stop)
    atexit.register(session.close)
    session.__enter__()
    if session.mode == "replay":
        guard.start()
    _watch_uncaught(session)


class _ReportingSession(Session):
    """A session that says at once what happened."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        path = Path(settings["cassette"])
        cassette = load(path) if path.exists() or settings["mode"] in ("replay", "verify") else None
        super().__init__(
            () if cassette is None else cassette.recordings,
            mode=settings["mode"],
            rollouts=settings["rollouts"],
            order=settings["order"],
            normalisers=_normalisers(settings["normalisers"]),
            store=False,
            where=settings["shown"],
            fix=settings["fix"],
            header=None if cassette is None else cassette.header,
        )
        self._folder = folder
        self._said: dict[str, int] = {}
        self._lock = threading.RLock()
        self._numbers = {id(recording): number for number, recording in enumerate(self._before, 1)}
        self._desk.heard = self._hear
        self._served: list[int] = []

    def _hear(self, recording: Recording) -> None:
        """A recording was served: say so with the next call, the first time."""
        number = self._numbers.pop(id(recording), None)
        if number is not None:
            self._served.append(number)

    def finished(self, entry: HistoryEntry, chunks: Sequence[TimedChunk] | None) -> None:
        super().finished(entry, chunks)
        with self._lock:
            is_miss = entry.error is not None and entry.error.type.endswith(".ReplayMiss")
            call = [] if is_miss else [{"call": {"served_by": entry.served_by, "cost": entry.cost}}]
            self._say([*call, *self._news()])

    def _begin_labels(self) -> Root:
        """Carry on the label that the process which started this one gave it; its children have sessions, too."""
        label = os.environ.get("LMTRACE_RUN_TASK", "0")
        return tasks.start(label if set(label) <= _IN_LABELS else "0", processes=True)

    def note_shown(self) -> None:
        """A miss has ended the program and was printed."""
        with self._lock:
            self._say([*self._news(), {"shown": True}])

    def _news(self) -> Iterator[dict[str, Any]]:
        """What has not been said yet."""
        for recording in self._unsaid("recording", self._made):
            yield {"recording": recording.to_wire(), "at": recording.timestamp_ns}
        for recording in self._unsaid("repeated", self._repeated):
            yield {"repeated": recording.to_wire(), "at": recording.timestamp_ns}
        for miss in self._unsaid("miss", self.misses):
            yield {"miss": miss.to_wire()}
        for number in self._unsaid("served", self._served):
            yield {"served": number}
        for key in self._unsaid("cancelled", self.cancelled):
            yield {"cancelled": key}
        for verdict in self._unsaid("verdict", self.verdicts):
            if verdict.outcome == "regression":
                yield {"regression": f"{verdict.request.model}: {'; '.join(verdict.differences)}"}

    def _unsaid(self, name: str, items: Sequence[T]) -> Sequence[T]:
        """What was added to `items` since this was called last."""
        said, self._said[name] = self._said.get(name, 0), len(items)
        return items[said:]

    def _say(self, lines: Sequence[dict[str, Any]]) -> None:
        text = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        with suppress(OSError), (self._folder / f"replay-{os.getpid()}.jsonl").open("ab") as file:
            file.write(text)  # the folder is gone when this process has outlived the command


def _normalisers(names: Sequence[str]) -> list[Normaliser]:
    """The functions of these names; the program's own modules are found in the folder it is started in.

    Raises:
        ValueError: there is none of that name.
    """
    if not names:
        return []
    from lmtrace_replay._patterns import normaliser

    sys.path.insert(0, os.getcwd())  # noqa: PTH109  # Python has not put the program's folder there yet
    try:
        return [normaliser(name) for name in names]
    finally:
        del sys.path[0]


def _watch_uncaught(session: _ReportingSession) -> None:
    """Let the command know which misses Python prints anyway."""
    before = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, ReplayMiss):
            before(kind, error, trace)
            return
        before(kind, error, own_part(trace))  # where the program asked; the rest of it is ours
        session.note_shown()

    sys.excepthook = excepthook


@dataclass(slots=True)
class Outcome:
    """What happened in all processes of a program."""

    tally: Tally = field(default_factory=Tally)
    recordings: list[Recording] = field(default_factory=list)
    """What was recorded, in the order in which it was asked."""
    misses: list[Miss] = field(default_factory=list)
    is_shown: bool = False
    """Whether a miss was printed by the program that it ended."""
    served: set[int] = field(default_factory=set)
    """Numbers, from 1, of the cassette's recordings that were served."""
    cancelled: set[str] = field(default_factory=set)
    """Keys of requests that the program cancelled while it was recorded."""
    regressions: list[str] = field(default_factory=list)
    """Live answers that are not what was recorded, one line each."""

    @classmethod
    def read(cls, folder: Path, before: Sequence[Recording] = ()) -> Outcome:
        """What the processes left in a folder.

        Args:
            folder: That of the settings.
            before: What the cassette holds, unless it is written anew.
        """
        outcome = cls()
        for path in sorted(folder.glob("replay-*.jsonl")):
            said = [orjson.loads(line) for line in path.read_bytes().splitlines()]
            for one in said:
                outcome._add(one)
            outcome.recordings += placed(_named("recording", said), _named("repeated", said), before)
        outcome.recordings.sort(key=lambda recording: recording.timestamp_ns)
        return outcome

    def _add(self, said: dict[str, Any]) -> None:
        if "call" in said:
            call = said["call"]
            self.tally.replayed += call["served_by"] == "replay"
            self.tally.live += call["served_by"] == "provider"
            self.tally.saved += (call["cost"] or 0.0) * (call["served_by"] == "replay")
        elif "miss" in said:
            self.misses.append(Miss.from_wire(said["miss"]))
            self.tally.missed += 1
        elif "served" in said:
            self.served.add(said["served"])
        elif "cancelled" in said:
            self.cancelled.add(said["cancelled"])
        elif "regression" in said:
            self.regressions.append(said["regression"])
        self.is_shown = self.is_shown or "shown" in said

    def report(self) -> str | None:
        """The report of the misses, unless somebody has seen it; it is kept for ``lmtrace why --last``."""
        if not self.misses:
            return None
        remember(self.misses)
        return None if self.is_shown else report(self.misses)


def _named(name: str, said: Sequence[dict[str, Any]]) -> list[Recording]:
    """The recordings that a process said under a name, with the time they were asked at."""
    return [replace(Recording.from_wire(one[name]), timestamp_ns=one["at"]) for one in said if name in one]
