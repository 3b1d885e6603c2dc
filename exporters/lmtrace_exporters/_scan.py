"""Read a journal line by line and know which lines are what was written.

Every line is checked against its checksum before its row is served. A file that only grew since it was last looked at
is checked from there on, so a process that reads again and again pays for new lines only.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final

import orjson

from lmtrace._schema import SCHEMA_VERSION
from lmtrace_exporters._line import is_intact, lost_newline
from lmtrace_exporters._rowsql import unknown_keys

THIS_VERSION: Final = b'"schema_version":%d,' % SCHEMA_VERSION
"""In lines that have no keys but those this version knows."""

_READING: Final = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)
_REMEMBERED: Final = 4_096
_known: dict[Path, tuple[tuple[int, int, int], Scan]] = {}


@dataclass(frozen=True, slots=True)
class Bad:
    """A line that is not what was written."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Scan:
    """What a journal holds."""

    path: Path
    rows: int = 0
    """Intact lines."""

    end: int = 0
    """Where the last whole line ends; what follows is a line that was never finished."""

    size: int = 0
    """Bytes in the file when it was read."""

    longest: int = 0
    """Length of the longest line."""

    bad: tuple[Bad, ...] = field(default=())
    """Whole lines that fail their checksum."""

    unknown: frozenset[str] = frozenset()
    """Keys that a newer version added."""

    tail_looks_whole: bool = False
    """Whether the unfinished line would parse as JSON: only its newline is missing."""

    @property
    def is_plain(self) -> bool:
        """Tell whether a JSON reader that skips what it cannot parse gets the intact lines and no other."""
        return not self.bad and not self.tail_looks_whole


def scan(path: Path) -> Scan:
    """Check every line of a journal.

    Raises:
        OSError: the file cannot be read.
    """
    with open_own(path) as file:
        status = os.fstat(file.fileno())
        mark = (status.st_ino, status.st_size, status.st_mtime_ns)
        before = _known.get(path)
        if before is not None and before[0] == mark:
            return before[1]
        start = before[1] if before is not None and _only_grew(before[0], mark) else Scan(path)
        file.seek(start.end)
        result = _extend(start, file.read())
    if len(_known) >= _REMEMBERED:
        _known.clear()
    _known[path] = (mark, result)
    return result


def rescan(path: Path) -> Scan:
    """Check every line of a journal again, whatever is known about it.

    Raises:
        OSError: the file cannot be read.
    """
    _known.pop(path, None)
    return scan(path)


def open_own(path: Path) -> BinaryIO:
    """Open a file for reading, if it is one: a pipe would wait for ever, and a link may lead out of the store.

    Raises:
        OSError: it cannot be opened, or is something else.
    """
    file = os.fdopen(os.open(path, _READING), "rb")
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "is no file", os.fspath(path))


def intact_lines(result: Scan) -> Iterator[bytes]:
    """Yield the intact lines of a scanned journal, each with its newline.

    Raises:
        OSError: the file cannot be read.
    """
    data = result.path.read_bytes()[: result.end]
    start = 0
    for bad in (*result.bad, Bad(len(data), len(data))):
        yield from _split(data[start : bad.start])
        start = bad.end


def _split(data: bytes) -> Iterator[bytes]:
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        yield data[start : end + 1]
        start = end + 1


def _only_grew(before: tuple[int, int, int], now: tuple[int, int, int]) -> bool:
    return before[0] == now[0] and before[1] < now[1]


def _unknown(line: bytes) -> set[str]:
    try:
        row = orjson.loads(line)
        return unknown_keys(row["kind"], row)
    except (ValueError, KeyError, TypeError):
        return set()  # a row of some other kind: nothing reads it


def _extend(known: Scan, data: bytes) -> Scan:
    rows, longest, bad, unknown, start = known.rows, known.longest, list(known.bad), set(known.unknown), 0
    while (end := data.find(b"\n", start)) >= 0:
        line = data[start:end]
        if is_intact(line):
            rows += 1
            if THIS_VERSION not in line:  # parsing every line would triple the cost
                unknown |= _unknown(line)
        else:
            bad.append(Bad(known.end + start, known.end + end + 1))
        longest = max(longest, end - start)
        start = end + 1
    tail = data[start:]
    if lost_newline(tail):
        bad.append(Bad(known.end + start, known.end + len(data)))
        start, tail = len(data), b""
    return replace(
        known,
        rows=rows,
        longest=longest,
        bad=tuple(bad),
        unknown=frozenset(unknown),
        end=known.end + start,
        size=known.end + len(data),
        tail_looks_whole=tail.rstrip(b"\0 \r\n").endswith(b"}"),
    )
