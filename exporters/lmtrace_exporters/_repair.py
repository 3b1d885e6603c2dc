"""Make the catalog of a store again on request; a compaction does the same by itself when it finds it lost or damaged."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lmtrace_exporters._catalog import load
from lmtrace_exporters._compaction import MEMORY_MB, duckdb_errors
from lmtrace_exporters._duck import connect
from lmtrace_exporters._errors import StoreError
from lmtrace_exporters._filters import refresh_filters
from lmtrace_exporters._layout import Layout
from lmtrace_exporters._locks import hold_lock
from lmtrace_exporters._rebuild import rebuild_if_needed


@dataclass(slots=True)
class RebuildReport:
    """What became of the catalog."""

    ran: bool = True
    """False when a compaction was running, and so nothing was done."""
    rebuilt: bool = False
    """Whether the catalog was made again; a sound one is left as it is."""
    segments: int = 0
    """Segments that count now."""
    rows: int = 0
    """Rows in them."""
    filters: int = 0
    """Segments of which a search now knows what they do not hold, and did not before."""


def rebuild_catalog(path: str | os.PathLike[str], *, force: bool = False) -> RebuildReport:
    """Make a lost or damaged catalog again from what the segments say of themselves.

    Args:
        path: the store directory.
        force: make a sound catalog again, too; files that wait for slow readers are then deleted at once.

    Raises:
        StoreVersionError: a newer lmtrace wrote the store.
        StoreError: there is no store, or DuckDB or SQLite failed.
        OSError: the store cannot be written.
    """
    layout, report = Layout(Path(path).absolute()), RebuildReport()
    layout.check()
    if not layout.description.exists():
        raise StoreError(f"there is no store at {layout.root}")
    with hold_lock(layout.compaction_lock, create=True) as held, duckdb_errors("no row is lost"):
        report.ran = held
        if held:
            with connect(threads=1, memory_limit=f"{MEMORY_MB}MB") as connection:
                report.rebuilt = rebuild_if_needed(connection, layout, force=force)
            report.filters = refresh_filters(layout)
    segments = load(layout).segments
    report.segments, report.rows = len(segments), sum(segment.rows for segment in segments)
    return report
