"""The journals one compaction step takes: closed ones, locked by us, with everything known about their rows.

A journal's lock is free once its owner closed it or died. What is known (kind, day, number of rows) comes from Python's
own reading of every line; DuckDB's reading must agree with it, or nothing is committed.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final

import orjson

from lmtrace_exporters._layout import Layout
from lmtrace_exporters._line import is_whole, lost_newline
from lmtrace_exporters._locks import try_lock
from lmtrace_exporters._rowsql import IDENTITY, unknown_keys
from lmtrace_exporters._scan import THIS_VERSION

_MICROSECONDS: Final = 1_000_000
_BUFFER: Final = 1 << 20
"""Small enough for the processor's cache, and to be used again: whole files would be fresh memory each."""
_USUAL: Final = re.compile(
    rb'\{"kind":"(call|span)","(?:uuid|span_id)":"[^"\\]+",(?:"(?:trace_id|parent_span_id)":(?:null|"[^"\\]*"),)*'
    rb'"timestamp":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{6}))?Z"'
)
"""How lines of this version begin."""


@dataclass(slots=True)
class Group:
    """The rows of one kind and day."""

    rows: int = 0
    min_us: int = 1 << 62
    max_us: int = -(1 << 62)
    is_sorted: bool = True
    """Whether each row began after those before it."""

    def add(self, moment_us: int) -> None:
        """Count one row."""
        self.rows += 1
        if moment_us >= self.max_us:
            self.max_us = moment_us
        else:
            self.is_sorted = False
        if moment_us < self.min_us:  # noqa: PLR1730  calling `min` for every row costs more
            self.min_us = moment_us


@dataclass(slots=True)
class Batch:
    """Closed journals and what they hold."""

    names: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    """What DuckDB reads: the journals themselves, or copies without their damaged lines."""
    groups: dict[tuple[str, str], Group] = field(default_factory=dict)
    """By kind and day."""
    rows: dict[str, int] = field(default_factory=dict)
    """Rows by journal."""
    bad: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    """Lines that are not what was written, with their offsets, by journal."""
    unknown: set[str] = field(default_factory=set)
    longest: int = 0
    """Length of the longest line."""


@contextmanager
def closed_journals(layout: Layout, skip: Iterable[str], limit_bytes: int) -> Iterator[list[Path]]:
    """Lock closed journals, oldest first, up to a size; they stay locked for the length of the block."""
    chosen: list[Path] = []
    with ExitStack() as stack:
        size = 0
        for path in sorted(set(layout.journal.glob("*.jsonl")) - {layout.journal / name for name in skip}):
            if size < limit_bytes and _take(path, stack):
                chosen.append(path)
                size += path.stat().st_size
        yield chosen


def read_batch(paths: Iterable[Path], staging: Path, refused: Iterable[bytes] = ()) -> Batch:
    """Check every line of the journals and sort them by kind and day.

    Args:
        paths: closed journals.
        staging: a folder for copies.
        refused: lines that DuckDB cannot read; they count as damaged.

    Raises:
        OSError: a journal cannot be read, or a copy not be written.
    """
    batch, refused = Batch(), frozenset(refused)
    for path in paths:
        batch.names.append(path.name)
        _read(path, batch, staging, refused)
    return batch


def _take(path: Path, stack: ExitStack) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return False  # removed meanwhile, or no file of ours
    stack.callback(os.close, fd)
    return stat.S_ISREG(os.fstat(fd).st_mode) and try_lock(fd)


def _read(path: Path, batch: Batch, staging: Path, refused: frozenset[bytes]) -> None:
    end, rows, longest, bad, tail = 0, 0, 0, [], b""
    with path.open("rb", buffering=_BUFFER) as file:
        for line in file:
            end += len(line)
            if is_whole(line) and not (refused and line[:-1] in refused) and _note(line, batch):
                rows += 1
                longest = max(longest, len(line))
            elif line.endswith(b"\n"):
                bad.append((end - len(line), line[:-1]))
            else:
                tail = line
    if lost_newline(tail):
        bad.append((end - len(tail), tail))
    batch.rows[path.name] = rows
    batch.longest = max(batch.longest, longest)
    if bad:
        batch.bad[path.name] = bad
    if bad or tail:
        path = _copy(path, [*bad, (end - len(tail), tail)], staging / path.name)
    if rows:
        batch.files.append(path)


def _note(line: bytes, batch: Batch) -> bool:
    try:
        key, moment_us = _usual(line) or _parsed(line, batch)
    except (ValueError, KeyError, TypeError):
        return False
    group = batch.groups.get(key) or batch.groups.setdefault(key, Group())
    group.add(moment_us)
    return True


def _usual(line: bytes) -> tuple[tuple[str, str], int] | None:
    """Read the beginning of a line of this version: parsing all of it would cost a third of the compaction."""
    match = _USUAL.match(line)
    if match is None or THIS_VERSION not in line:
        return None
    kind, second, microseconds = match.groups(b"0")
    key, second_us = _second(kind, second)
    return key, second_us + int(microseconds)


@lru_cache(maxsize=64)
def _second(kind: bytes, text: bytes) -> tuple[tuple[str, str], int]:
    """Return kind and day, and a whole second in microseconds; thousands of rows in a journal share one."""
    moment = text.decode()
    return (kind.decode(), moment[:10]), int(datetime.fromisoformat(f"{moment}Z").timestamp()) * _MICROSECONDS


def _parsed(line: bytes, batch: Batch) -> tuple[tuple[str, str], int]:
    row = orjson.loads(line)
    kind, moment = row["kind"], datetime.fromisoformat(row["timestamp"])
    if not row[IDENTITY[kind]] or moment.tzinfo is None:
        raise ValueError(kind)
    batch.unknown |= unknown_keys(kind, row)
    moment = moment.astimezone(UTC)
    return (kind, moment.date().isoformat()), int(moment.timestamp()) * _MICROSECONDS + moment.microsecond


def _copy(source: Path, left_out: Iterable[tuple[int, bytes]], path: Path) -> Path:
    """Write a copy without some lines, given with their offsets in order, and without their newlines."""
    data, start = source.read_bytes(), 0
    with path.open("wb") as copy:
        for offset, line in left_out:
            copy.write(data[start:offset])
            start = offset + len(line) + 1
    return path
