"""A copy of a store at one moment, made beside live writers and compactions without making either wait.

Journals are listed first and the catalog is copied second, as a reader does it: a row is then in a copied journal or in a
copied segment. Segments and payloads never change, so they are hard links where the file system has them; a journal is
copied up to its last whole line. When a file goes away meanwhile, everything is listed anew.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lmtrace_exporters._catalog import Segment, load
from lmtrace_exporters._errors import StoreError
from lmtrace_exporters._filter_file import filter_path
from lmtrace_exporters._layout import Layout, sync_folder, write_whole

_TRIES: Final = 5


@dataclass(slots=True)
class BackupReport:
    """What a backup holds."""

    path: Path
    """Where it is: a store like any other."""
    segments: int = 0
    journals: int = 0
    blobs: int = 0
    bytes: int = 0
    """Size of the copied and linked files."""


def backup(source: str | os.PathLike[str], target: str | os.PathLike[str], *, link: bool = True) -> BackupReport:
    """Copy a store while others write to it and return what was copied.

    Args:
        source: the store directory.
        target: the directory to make; it must not exist.
        link: share segments and payloads with the source by hard links where that is possible. A flipped bit on the
            disk is then in both: pass False for a backup on the same disk that is to survive that.

    Raises:
        StoreVersionError: a newer lmtrace wrote the store.
        StoreError: there is no store, its catalog is damaged, or the target exists.
        OSError: a file cannot be read or written.
    """
    layout, final = Layout(Path(source).absolute()), Path(target).absolute()
    layout.check()
    if not layout.description.exists():
        raise StoreError(f"there is no store at {layout.root}")
    if final.exists():
        raise StoreError(f"{final} exists: choose another name or remove it")
    final.parent.mkdir(parents=True, exist_ok=True)
    draft = final.with_name(f".{final.name}-{os.getpid()}")
    try:
        report = _repeated(layout, draft, _linked if link else _copied)
        for folder in sorted({path.parent for path in draft.rglob("*")}):
            sync_folder(folder)
        draft.rename(final)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    sync_folder(final.parent)
    report.path = final
    return report


Copy = Callable[[Path, Path], None]


def _repeated(layout: Layout, draft: Path, copy: Copy) -> BackupReport:
    for left in reversed(range(_TRIES)):
        try:
            return _attempt(layout, draft, copy)
        except FileNotFoundError:  # a grace period ended
            shutil.rmtree(draft, ignore_errors=True)
            if not left:
                raise
    raise AssertionError


def _attempt(layout: Layout, draft: Path, copy: Copy) -> BackupReport:
    report, made = BackupReport(draft), Layout(draft)
    for folder in (draft, made.journal, made.blobs):
        folder.mkdir(mode=0o700)
    journals = sorted(layout.journal.glob("*.jsonl"))
    _copy_catalog(layout, made)
    catalog = load(made)
    if catalog.problems:
        raise StoreError(f"{catalog.problems[0]}; `lmtrace rebuild-index` makes it again")
    for path in journals:
        if path.name not in catalog.consumed:
            report.bytes += _copy_journal(path, made.journal / path.name)
            report.journals += 1
    _copy_files([_within(layout, segment) for segment in catalog.segments], layout, made, copy, report)
    report.segments = len(catalog.segments)
    filters = [filter_path(layout, segment) for segment in catalog.segments]
    _copy_files([path for path in filters if path.exists()], layout, made, copy, report)
    blobs = [path for path in layout.blobs.glob("*") if "." not in path.name]  # last: no copied row came after them
    _copy_files([*blobs, *layout.quarantine.glob("*")], layout, made, copy, report)
    report.blobs = len(blobs)
    for name in (".gitignore", layout.description.name):
        write_whole(draft / name, (layout.root / name).read_bytes())
    return report


def _copy_catalog(layout: Layout, made: Layout) -> None:
    if not layout.catalog.exists():
        if load(layout).problems:
            raise StoreError("the catalog is lost; `lmtrace rebuild-index` makes it again")
        return
    try:
        with (
            closing(sqlite3.connect(f"{layout.catalog.as_uri()}?mode=ro", uri=True, timeout=30)) as db,
            closing(sqlite3.connect(made.catalog)) as copy,
        ):
            db.backup(copy)
    except sqlite3.Error as error:
        raise StoreError(f"the catalog is damaged: {error}; `lmtrace rebuild-index` makes it again") from error
    made.catalog.chmod(0o600)


def _copy_journal(source: Path, target: Path) -> int:
    data = source.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    write_whole(target, whole)
    return len(whole)


def _copy_files(paths: Iterable[Path], layout: Layout, made: Layout, copy: Copy, report: BackupReport) -> None:
    for path in paths:
        target = made.root / path.relative_to(layout.root)
        for folder in (target.parent.parent, target.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
        copy(path, target)
        report.bytes += target.stat().st_size


def _within(layout: Layout, segment: Segment) -> Path:
    """Return the path of a segment, and refuse a catalog that points out of the store."""
    parts = Path(segment.path).parts
    if len(parts) != 3 or parts[0] not in ("segments", "spans") or ".." in parts:
        raise StoreError(f"the catalog names {segment.path!r}, which is no segment of the store")
    return layout.root / segment.path


def _linked(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except FileNotFoundError:
        raise
    except (OSError, NotImplementedError):  # another disk, or a file system without links
        _copied(source, target)


def _copied(source: Path, target: Path) -> None:
    """Copy a file with its times, by which readers know that it is what the catalog means."""
    draft = target.with_name(target.name + ".tmp")
    shutil.copy2(source, draft, follow_symlinks=False)
    fd = os.open(draft, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    draft.rename(target)
