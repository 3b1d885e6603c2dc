"""Calls as they finish: the new lines of a store's journals, without DuckDB.

Journals are append-only, and a line counts once its newline is there, so following is remembering an offset per file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lmtrace._cli._store import Row


class Follower:
    """What is written to a store from now on."""

    def __init__(self, store: Path) -> None:
        self._folder = store / "journal"
        self._offsets = {path: path.stat().st_size for path in self._journals()}

    def new_calls(self) -> Iterator[Row]:
        """Calls that finished since the last time, in the order of their journals."""
        for path in self._journals():
            yield from self._new_in(path)

    def _journals(self) -> list[Path]:
        return sorted(self._folder.glob("*.jsonl"))

    def _new_in(self, path: Path) -> Iterator[Row]:
        try:
            with path.open("rb") as journal:
                journal.seek(self._offsets.get(path, 0))
                data = journal.read()
        except FileNotFoundError:  # compacted meanwhile
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offsets[path] = self._offsets.get(path, 0) + len(whole)
        for line in whole.splitlines():
            row = _call(line)
            if row is not None:
                yield row


def _call(line: bytes) -> Row | None:
    """The call in a line, or None when it holds a span or is damaged, which `lmtrace doctor` reports."""
    from lmtrace_exporters._line import is_intact
    from lmtrace_exporters._rows import from_line

    return from_line(line) if line.startswith(b'{"kind":"call"') and is_intact(line) else None
