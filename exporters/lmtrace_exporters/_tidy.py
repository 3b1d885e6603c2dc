"""Clear away what earlier compactions left: by plan, or because they were killed.

Readers open files by path a moment after they listed them, so what was replaced stays for a grace period. A merged file
waits just as long, under a name that `*.parquet` does not match: whoever reads the folder with another engine sees the old
files or the new one, not both.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lmtrace_exporters._catalog import Catalog, Segment, add_segments, change, forget
from lmtrace_exporters._layout import Layout, sync_folder
from lmtrace_exporters._locks import hold_lock
from lmtrace_exporters._parquet import now_us, origin_of
from lmtrace_exporters._quarantine import quarantine_file
from lmtrace_exporters._snapshot import damage
from lmtrace_exporters._troubles import remove_old

if TYPE_CHECKING:
    import duckdb

WAITING: Final = ".waiting"
"""Suffix of a merged file that waits to take the place of what it was made from."""


def remove_leftovers(connection: duckdb.DuckDBPyConnection, layout: Layout, catalog: Catalog) -> int:
    """Remove the drafts and segments of killed compactions, which no catalog entry knows. Return how many files.

    A Parquet file that is not of our making is left where it is, and so is one whose rows are nowhere else.
    """
    shutil.rmtree(layout.staging, ignore_errors=True)
    known = {layout.root / segment.path for segment in (*catalog.segments, *catalog.dropped)}
    unknown = [path for path in segment_files(layout) if path not in known]
    orphans = [path for path in unknown if path.suffix == ".tmp" or _is_spare(layout, origin_of(connection, path))]
    for path in orphans:
        path.unlink(missing_ok=True)
    return len(orphans)


def _is_spare(layout: Layout, origin: dict[str, Any] | None) -> bool:
    """Tell whether everything a segment was made from is still there."""
    if origin is None:
        return False
    sources = [layout.journal / name for name in origin.get("journals", ())]
    sources += [layout.root / path for path in origin.get("replaces", ())]
    return all(path.exists() for path in sources)


def remove_drafts(layout: Layout, grace_us: int) -> None:
    """Remove what processes that died had begun to write under another name, and old notes of their troubles."""
    remove_old(layout)
    limit = time.time() - grace_us / 1_000_000
    for folder in (layout.root, layout.journal, layout.blobs, layout.filters, layout.quarantine):
        for path in folder.glob("*.tmp"):
            with suppress(FileNotFoundError):
                if path.is_file() and path.stat().st_mtime <= limit and _is_left(path):
                    path.unlink()


def _is_left(path: Path) -> bool:
    with hold_lock(path) as free:
        return free


def set_apart_damage(layout: Layout, catalog: Catalog, *, thorough: bool) -> int:
    """Move segments that differ from their checksum to the quarantine and return how many rows that are.

    Raises:
        OSError: the store cannot be written.
    """
    lost = 0
    for segment in catalog.segments:
        with suppress(FileNotFoundError):
            (layout.root / segment.path).stat()  # a disk that fails just now is no damage
        reason = damage(layout, segment, thorough=thorough)
        if reason is not None:
            quarantine_file(layout, segment.path, reason, segment.rows)
            with change(layout) as db:
                forget(db, [segment.path], [])
            lost += segment.rows
    return lost


def end_grace(layout: Layout, catalog: Catalog, grace_us: int) -> None:
    """Delete what readers had enough time to finish with, and let merged files take their places.

    Raises:
        OSError: the store cannot be written.
    """
    limit = now_us() - grace_us
    published = [s for s in catalog.segments if s.path.endswith(WAITING) and s.added_us <= limit]
    for segment in published:
        _link(layout.root / segment.path, layout.root / _final(segment))
    dropped = [segment for segment in catalog.dropped if (segment.dropped_us or 0) <= limit]
    journals = [name for name, consumed_us in catalog.consumed.items() if consumed_us <= limit]
    _delete(layout.root / segment.path for segment in dropped)
    _delete(layout.journal / name for name in journals)
    _sync_folders(layout, [*published, *dropped])
    _remove_empty({(layout.root / segment.path).parent for segment in dropped})
    if published or dropped or journals:
        with change(layout) as db:
            forget(db, [segment.path for segment in dropped], journals)
            add_segments(db, [replace(segment, path=_final(segment)) for segment in published])
            add_segments(db, [replace(segment, dropped_us=now_us()) for segment in published])


def _final(segment: Segment) -> str:
    return segment.path.removesuffix(WAITING)


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return  # a killed compaction came this far
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        draft = target.with_name(target.name + ".tmp")
        shutil.copy2(source, draft)
        draft.rename(target)


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # not empty
            folder.rmdir()


def _sync_folders(layout: Layout, segments: Iterable[Segment]) -> None:
    """Make deletions durable before the catalog forgets them: a journal that came back would be compacted twice."""
    folders = {(layout.root / segment.path).parent for segment in segments} | {layout.journal}
    for folder in folders:
        if folder.exists():
            sync_folder(folder)


def segment_files(layout: Layout) -> Iterable[Path]:
    """Yield every file that is, was or was to become a segment."""
    for kind in ("call", "span"):
        for suffix in (".parquet", ".parquet.tmp", f".parquet{WAITING}", f".parquet{WAITING}.tmp"):
            yield from layout.segments(kind).glob(f"date=*/*{suffix}")
