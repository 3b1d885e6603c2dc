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
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import orjson

from lmtrace_replay._cassette import load
from lmtrace_replay._last import remember
from lmtrace_replay._miss import Miss, ReplayMiss
from lmtrace_replay._recording import Recording
from lmtrace_replay._report import report
from lmtrace_replay._session import Session
from lmtrace_replay._sockets import SocketGuard
from lmtrace_replay._tally import Tally

if TYPE_CHECKING:
    from lmtrace._entry import HistoryEntry
    from lmtrace._serving import TimedChunk

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
            store=False,
            where=settings["shown"],
            fix=settings["fix"],
            header=None if cassette is None else cassette.header,
        )
        self._folder = folder
        self._said = {"recording": 0, "miss": 0}
        self._lock = threading.Lock()

    def finished(self, entry: HistoryEntry, chunks: Sequence[TimedChunk] | None) -> None:
        super().finished(entry, chunks)
        with self._lock:
            is_miss = entry.error is not None and entry.error.type.endswith(".ReplayMiss")
            call = [] if is_miss else [{"call": {"served_by": entry.served_by, "cost": entry.cost}}]
            self._say([*call, *self._news()])

    def note_shown(self) -> None:
        """A miss has ended the program and was printed."""
        with self._lock:
            self._say([*self._news(), {"shown": True}])

    def _news(self) -> Iterator[dict[str, Any]]:
        """What has not been said yet."""
        made, misses = self._made, self.misses
        for recording in made[self._said["recording"] :]:
            yield {"recording": recording.to_wire(), "at": recording.timestamp_ns}
        for miss in misses[self._said["miss"] :]:
            yield {"miss": miss.to_wire()}
        self._said = {"recording": len(made), "miss": len(misses)}

    def _say(self, lines: Sequence[dict[str, Any]]) -> None:
        text = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        with suppress(OSError), (self._folder / f"replay-{os.getpid()}.jsonl").open("ab") as file:
            file.write(text)  # the folder is gone when this process has outlived the command


def _watch_uncaught(session: _ReportingSession) -> None:
    """Let the command know which misses Python prints anyway."""
    before = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        before(kind, error, trace)
        if isinstance(error, ReplayMiss):
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

    @classmethod
    def read(cls, folder: Path) -> Outcome:
        """What the processes left in a folder."""
        outcome, dated = cls(), []
        for path in sorted(folder.glob("replay-*.jsonl")):
            for line in path.read_bytes().splitlines():
                said = orjson.loads(line)
                outcome._add(said)
                if "recording" in said:
                    dated.append((said["at"], Recording.from_wire(said["recording"])))
        outcome.recordings = [recording for _, recording in sorted(dated, key=lambda pair: pair[0])]
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
        self.is_shown = self.is_shown or "shown" in said

    def report(self) -> str | None:
        """The report of the misses, unless somebody has seen it; it is kept for ``lmtrace why --last``."""
        if not self.misses:
            return None
        remember(self.misses)
        return None if self.is_shown else report(self.misses)
