"""The file beside a segment that says which of its parts cannot hold a text.

It is derived: whatever is wrong with it, a search that does without reads the whole segment and finds the same. So nothing
here raises for a file that is missing, torn, flipped, of another segment or of a newer lmtrace: `examine` names the flaw.

The first line is JSON with its checksum, as in a journal: the format, the SHA-256 of the segment, for each row group its rows
and the size of its bitmap (`_grams`), and the CRC-32 of all that follows, which is the bitmaps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from lmtrace_exporters._catalog import Segment
from lmtrace_exporters._grams import may_hold
from lmtrace_exporters._layout import Layout, write_whole
from lmtrace_exporters._line import frame, is_intact
from lmtrace_exporters._scan import open_own

FORMAT: Final = 1
SUFFIX: Final = ".grams"
_LONGEST_HEADER: Final = 1 << 20


class Flaw(Enum):
    """Why a segment has no filter to go by."""

    MISSING = "is missing"
    UNREADABLE = "cannot be read"
    DAMAGED = "differs from its checksum"
    FOREIGN = "is of another segment"
    NEWER = "was written by a newer lmtrace"


@dataclass(frozen=True, slots=True)
class Part:
    """A row group."""

    rows: int
    bitmap: bytes | memoryview
    """The grams of its texts."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What is known of the texts in one segment."""

    parts: tuple[Part, ...]

    def rows_for(self, wanted: Iterable[Sequence[bytes]]) -> list[tuple[int, int]]:
        """Return the first and last numbers of the rows that may hold all runs of one of the alternatives."""
        alternatives = list(wanted)
        found: list[tuple[int, int]] = []
        first = 0
        for part in self.parts:
            if any(all(may_hold(part.bitmap, run) for run in runs) for runs in alternatives):
                start = found.pop()[0] if found and found[-1][1] == first - 1 else first
                found.append((start, first + part.rows - 1))
            first += part.rows
        return found


def filter_path(layout: Layout, segment: Segment) -> Path:
    """Return where the filter of a segment is: a segment keeps the first part of its name when it is renamed."""
    return layout.filters / f"{Path(segment.path).name.split('.')[0]}{SUFFIX}"


def save(layout: Layout, segment: Segment, parts: Iterable[Part]) -> None:
    """Write the filter of a segment.

    Raises:
        OSError: the store cannot be written.
    """
    made = list(parts)
    body = b"".join(part.bitmap for part in made)
    header = {
        "format": FORMAT,
        "segment": segment.sha256,
        "parts": [[part.rows, len(part.bitmap)] for part in made],
        "crc32_of_rest": f"{crc32(body):08x}",
    }
    layout.filters.mkdir(mode=0o700, exist_ok=True)
    write_whole(filter_path(layout, segment), frame(json.dumps(header).encode()), body)


def load(layout: Layout, segment: Segment) -> Filter | None:
    """Return the filter of a segment, or None when there is none that can be trusted."""
    found = examine(layout, segment)
    return found if isinstance(found, Filter) else None


def examine(layout: Layout, segment: Segment) -> Filter | Flaw:
    """Return the filter of a segment, or why there is none."""
    try:
        with open_own(filter_path(layout, segment)) as file:
            header, body = file.readline(_LONGEST_HEADER).removesuffix(b"\n"), file.read()
    except FileNotFoundError:
        return Flaw.MISSING
    except (OSError, ValueError):
        return Flaw.UNREADABLE
    if not is_intact(header):
        return Flaw.DAMAGED
    try:
        return _parsed(json.loads(header), memoryview(body), segment)
    except (ValueError, KeyError, TypeError):
        return Flaw.DAMAGED


def _parsed(header: dict[str, Any], body: memoryview, segment: Segment) -> Filter | Flaw:
    if header["format"] > FORMAT:
        return Flaw.NEWER
    if header["segment"] != segment.sha256:
        return Flaw.FOREIGN
    parts, start = [], 0
    for rows, size in header["parts"]:
        if size < 1 or size & (size - 1):
            return Flaw.DAMAGED
        parts.append(Part(rows, body[start : start + size]))
        start += size
    fits = start == len(body) and sum(part.rows for part in parts) == segment.rows
    return Filter(tuple(parts)) if fits and header["crc32_of_rest"] == f"{crc32(body):08x}" else Flaw.DAMAGED
