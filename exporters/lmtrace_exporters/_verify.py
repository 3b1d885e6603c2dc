"""Check everything in a store that has a checksum, beside live writers, and change nothing.

Readers check a journal's lines always and a segment's hash when its size or time changed; this reads every byte. A line
that was never finished is not a fault: nobody was told that it was written.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lmtrace_exporters._blobs_in_use import mentioned
from lmtrace_exporters._catalog import Segment, load
from lmtrace_exporters._compaction import duckdb_errors
from lmtrace_exporters._duck import connect
from lmtrace_exporters._filter_file import Filter, Flaw, examine, filter_path
from lmtrace_exporters._layout import Layout
from lmtrace_exporters._quarantine import reports
from lmtrace_exporters._scan import rescan
from lmtrace_exporters._snapshot import Problem, file_sha256


@dataclass(slots=True)
class VerifyReport:
    """What was checked and what is wrong."""

    segments: int = 0
    """Segments whose hash was compared."""
    journals: int = 0
    """Journals whose lines were compared with their checksums."""
    blobs: int = 0
    """Payloads whose hash was compared with their name."""
    filters: int = 0
    """Filters of segments, by which a search knows what not to read, whose checksum was compared."""
    rows: int = 0
    """Rows in intact files and lines."""
    bytes: int = 0
    """Bytes read."""
    problems: list[Problem] = field(default_factory=list)
    """What is damaged or missing, and what lies in quarantine."""

    @property
    def is_sound(self) -> bool:
        """Tell whether nothing is wrong."""
        return not self.problems


def verify(path: str | os.PathLike[str]) -> VerifyReport:
    """Compare every file of a store with its checksum.

    Raises:
        StoreVersionError: a newer lmtrace wrote the store.
        StoreError: its description is damaged, or DuckDB cannot look for payloads.
    """
    layout = Layout(Path(path).absolute())
    layout.check()
    report = VerifyReport()
    report.problems += (Problem(where, reason) for where, reason in reports(layout))
    journals = sorted(layout.journal.glob("*.jsonl"))
    catalog = load(layout)
    report.problems += (Problem("catalog.sqlite", text) for text in catalog.problems)
    if not layout.catalog.exists() and any(layout.segments("call").glob("date=*/*.parquet")):
        report.problems.append(Problem("catalog.sqlite", "is missing; `lmtrace rebuild-index` makes it again"))
    live = [path for path in journals if path.name not in catalog.consumed]
    intact = [journal for journal in live if _is_intact(report, journal)]
    sound = [segment for segment in catalog.segments if _is_sound(report, layout, segment)]
    _check_filters(report, layout, sound)
    _check_blobs(report, layout, sound, intact)
    return report


def _is_intact(report: VerifyReport, path: Path) -> bool:
    try:
        found = rescan(path)
    except FileNotFoundError:
        return False  # compacted meanwhile
    except OSError as error:
        report.problems.append(Problem(f"journal/{path.name}", f"cannot be read: {error.strerror}"))
        return False
    report.journals += 1
    report.rows += found.rows
    report.bytes += found.size
    if found.bad:
        where = ", ".join(str(bad.start) for bad in found.bad[:5])
        reason = f"{len(found.bad)} lines differ from their checksum, at byte {where}"
        report.problems.append(Problem(f"journal/{path.name}", reason))
    return not found.bad


def _is_sound(report: VerifyReport, layout: Layout, segment: Segment) -> bool:
    reason = _wrong_with(layout, segment)
    if reason == _MISSING and segment.path not in {other.path for other in load(layout).segments}:
        return False  # replaced meanwhile
    if reason is not None:
        report.problems.append(Problem(segment.path, f"{reason}; it held {segment.rows} rows"))
        return False
    report.segments += 1
    report.rows += segment.rows
    report.bytes += segment.bytes
    return True


def _check_filters(report: VerifyReport, layout: Layout, segments: Iterable[Segment]) -> None:
    for segment in segments:
        path, flaw = filter_path(layout, segment), examine(layout, segment)
        if isinstance(flaw, Filter):
            report.filters += 1
            report.bytes += path.stat().st_size
        elif flaw not in (Flaw.MISSING, Flaw.NEWER):
            reason = f"{flaw.value}; searches do without it, and `lmtrace compact` makes it again"
            report.problems.append(Problem(f"{layout.filters.name}/{path.name}", reason))


_MISSING = "is missing"


def _wrong_with(layout: Layout, segment: Segment) -> str | None:
    try:
        return None if file_sha256(layout.root / segment.path) == segment.sha256 else "differs from its checksum"
    except FileNotFoundError:
        return _MISSING
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _check_blobs(report: VerifyReport, layout: Layout, segments: Iterable[Segment], journals: Iterable[Path]) -> None:
    there = set()
    for path in _payloads(layout):
        there.add(path.name)
        with suppress(FileNotFoundError):
            report.bytes += path.stat().st_size
            report.blobs += 1
            if file_sha256(path) != path.name:
                report.problems.append(Problem(f"blobs/{path.name}", "differs from its name, which is its checksum"))
    with duckdb_errors("nothing was changed"), connect() as connection:
        used = mentioned(connection, layout, segments, journals)
    for name in sorted(used - there):
        if not (layout.blobs / name).exists():
            report.problems.append(Problem(f"blobs/{name}", "is missing, and rows refer to it"))


def _payloads(layout: Layout) -> Iterator[Path]:
    digits = hashlib.sha256().digest_size * 2
    return (path for path in layout.blobs.glob("*") if len(path.name) == digits)
