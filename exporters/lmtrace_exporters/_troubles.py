"""What went wrong in the processes that record, left in the store for `lmtrace doctor`, which is another process.

One small file for each process that had trouble, replaced at most every few seconds. It holds kinds of failures and how
often they happened, never content. A disk that does not take it is the trouble itself, and doctor sees that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from lmtrace._failures import failures
from lmtrace_exporters._layout import Layout, write_whole

KEPT_SECONDS: Final = 7 * 86_400.0
_EVERY_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """One kind of failure in one process."""

    kind: str
    count: int
    last: str
    pid: int
    at: float
    """When it was written down, in seconds since 1970."""


class Troubles:
    """Writes down what went wrong in this process since this object was made."""

    def __init__(self, layout: Layout) -> None:
        self._path = layout.failures / f"{os.getpid()}-{os.urandom(4).hex()}.json"
        self._before = failures.counts()
        self._told: dict[str, int] = {}
        self._due = 0.0

    def tell(self, lost: int, *, now: bool = False) -> None:
        """Write it down if there is news, and not too soon after the last time unless it must be `now`."""
        counts = {kind: count - self._before.get(kind, 0) for kind, count in failures.counts().items()}
        counts = {kind: count for kind, count in counts.items() if count > 0}
        if lost:
            counts["rows lost"] = lost
        if counts == self._told or (not now and time.monotonic() < self._due):
            return
        self._due = time.monotonic() + _EVERY_SECONDS
        note = {"pid": os.getpid(), "at": time.time(), "counts": counts, "last": failures.last()}
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            write_whole(self._path, orjson.dumps(note))
            self._told = counts


def troubles(layout: Layout) -> Iterator[Trouble]:
    """Yield what the processes of the last days wrote down, the newest first."""
    limit = time.time() - KEPT_SECONDS
    notes = [note for path in layout.failures.glob("*.json") if (note := _read(path)) and note["at"] >= limit]
    for note in sorted(notes, key=lambda note: -note["at"]):
        for kind, count in note["counts"].items():
            yield Trouble(str(kind), int(count), str(note["last"].get(kind, "")), int(note["pid"]), float(note["at"]))


def remove_old(layout: Layout) -> None:
    """Delete what nobody is told any more."""
    limit = time.time() - KEPT_SECONDS
    for path in layout.failures.glob("*.json*"):
        with suppress(OSError):
            if path.stat().st_mtime < limit:
                path.unlink()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        note: dict[str, Any] = orjson.loads(path.read_bytes())
        whole = isinstance(note["counts"], dict) and isinstance(note["last"], dict)
        return note if whole and float(note["at"]) and int(note["pid"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
