"""Which files make up the history at one moment.

The order matters: journals are listed first and the catalog is read second. A journal that is compacted in between is
then in both, and the catalog says so; the other way round its rows would be in neither.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from lmtrace_exporters._catalog import Catalog, Segment, load
from lmtrace_exporters._layout import Layout
from lmtrace_exporters._scan import Scan, intact_lines, scan

_checked: dict[tuple[str, int, int], bool] = {}
_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a store that could not be served."""

    path: str
    """The file, relative to the store."""
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files to read and what had to be left out."""

    journals: tuple[Scan, ...] = ()
    segments: tuple[Segment, ...] = ()
    problems: tuple[Problem, ...] = ()


def take_snapshot(layout: Layout, since: datetime | None = None, until: datetime | None = None) -> Snapshot:
    """List what is readable now, without the files that lie wholly outside the time asked for.

    Raises:
        StoreError: the store is newer than this lmtrace, or its description is damaged.
    """
    layout.check()
    paths = sorted(layout.journal.glob("*.jsonl"))
    catalog = load(layout)
    problems = [Problem("catalog.sqlite", text) for text in catalog.problems]
    journals = _scans((path for path in paths if path.name not in catalog.consumed), since, problems)
    segments = tuple(_sound(layout, _in_time(catalog, since, until), problems))
    return Snapshot(tuple(journals), segments, tuple(problems))


def plain_copy(journal: Scan, folder: Path) -> Path:
    """Return a file with the intact lines of a journal and nothing else.

    Raises:
        OSError: the journal cannot be read, or the copy not be written.
    """
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".jsonl", delete=False) as copy:
        copy.writelines(intact_lines(journal))
    return Path(copy.name)


def damage(layout: Layout, segment: Segment, *, thorough: bool = False) -> str | None:
    """Return what is wrong with a segment's file, or None.

    The whole file is hashed once per process if its size or time differ from the catalog's; `thorough` always hashes.
    """
    try:
        status = (layout.root / segment.path).stat()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if status.st_size != segment.bytes:
        return f"has {status.st_size} bytes instead of {segment.bytes}"
    if status.st_mtime_ns == segment.mtime_ns and not thorough:
        return None
    key = (segment.sha256, status.st_ino, status.st_mtime_ns)
    if thorough or key not in _checked:
        _checked[key] = file_sha256(layout.root / segment.path) == segment.sha256
    return None if _checked[key] else "differs from its checksum"


def file_sha256(path: Path) -> str:
    """Return the hash of a whole file.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def microseconds(moment: datetime) -> int:
    """Return a time as the catalog keeps it; a naive one is local time."""
    return int(moment.timestamp() * _MICROSECONDS)


def _scans(paths: Iterable[Path], since: datetime | None, problems: list[Problem]) -> Iterable[Scan]:
    for path in paths:
        try:
            if since is not None and path.stat().st_mtime < since.timestamp():
                continue  # nothing that began later can have been written before
            result = scan(path)
        except FileNotFoundError:
            continue  # somebody removed it: there is nothing to say about rows nobody has
        except OSError as error:
            problems.append(Problem(f"journal/{path.name}", f"cannot be read: {error.strerror}"))
            continue
        if result.bad:
            problems.append(Problem(f"journal/{path.name}", f"{len(result.bad)} lines differ from their checksum"))
        if result.rows:
            yield result


def _in_time(catalog: Catalog, since: datetime | None, until: datetime | None) -> Iterable[Segment]:
    first = microseconds(since) if since is not None else None
    last = microseconds(until) if until is not None else None
    for segment in catalog.segments:
        if (first is None or segment.max_us >= first) and (last is None or segment.min_us < last):
            yield segment


def _sound(layout: Layout, segments: Iterable[Segment], problems: list[Problem]) -> Iterable[Segment]:
    for segment in segments:
        reason = damage(layout, segment)
        if reason is None:
            yield segment
        else:
            problems.append(Problem(segment.path, f"{reason}; {segment.rows} rows are not served"))
