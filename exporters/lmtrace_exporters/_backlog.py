"""Lines that the disk did not take, kept in bounded memory until it does.

When the bound is reached the newcomer is dropped, not an older line: its exporter can still be told.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

MAX_LINES: Final = 10_000
MAX_BYTES: Final = 32 << 20


class Backlog:
    """A bounded list of lines that wait; the caller holds the lock."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        """What waits, oldest first; changed by the methods only."""
        self._size = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self.lines)

    def put(self, lines: Iterable[bytes]) -> int:
        """Keep what there is room for and return how many lines had to be dropped."""
        before = self.dropped
        for line in lines:
            if len(self.lines) >= MAX_LINES or self._size + len(line) > MAX_BYTES:
                self.dropped += 1
            else:
                self.lines.append(line)
                self._size += len(line)
        return self.dropped - before

    def take(self) -> list[bytes]:
        """Return all lines in order and forget them."""
        lines, self.lines, self._size = self.lines, [], 0
        return lines
