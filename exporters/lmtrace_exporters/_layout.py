"""Where things are in a store directory, and whether this lmtrace may touch them.

The directory describes itself: `store.json` carries the major format version, written once. A newer major version is
refused before anything is read or written; an older reader can then never misread a newer file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lmtrace._schema import STORE_FORMAT
from lmtrace_exporters._errors import StoreError, StoreVersionError
from lmtrace_exporters._line import frame, is_intact


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one store."""

    root: Path

    @property
    def description(self) -> Path:
        """The file with the format version."""
        return self.root / "store.json"

    @property
    def journal(self) -> Path:
        """The folder of journals, one per process."""
        return self.root / "journal"

    @property
    def blobs(self) -> Path:
        """The folder of payloads over 1 MB."""
        return self.root / "blobs"

    @property
    def quarantine(self) -> Path:
        """The folder of what failed its checksum."""
        return self.root / "quarantine"

    @property
    def filters(self) -> Path:
        """The folder of files that say which parts of segments cannot hold a text."""
        return self.root / "filters"

    @property
    def failures(self) -> Path:
        """The folder of what went wrong in the processes that record."""
        return self.root / "failures"

    @property
    def catalog(self) -> Path:
        """The database that says which segments count."""
        return self.root / "catalog.sqlite"

    @property
    def compaction_lock(self) -> Path:
        """The file whose lock lets one compaction run."""
        return self.root / "compact.lock"

    @property
    def staging(self) -> Path:
        """The folder of a running compaction's temporary files."""
        return self.root / "staging"

    def segments(self, kind: str) -> Path:
        """The folder of Parquet files for ``"call"`` or ``"span"`` rows."""
        return self.root / ("segments" if kind == "call" else "spans")

    def create(self) -> None:
        """Make the directory ready for a writer; do nothing when it is.

        Raises:
            StoreVersionError: the store is newer than this lmtrace.
            OSError: the directory cannot be made.
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.journal.mkdir(mode=0o700, exist_ok=True)
        if not self.description.exists():
            write_whole(self.root / ".gitignore", b"*\n")
            write_whole(self.description, _description())
        self.check()

    def check(self) -> None:
        """Refuse a store that this lmtrace cannot read; a missing one is fine.

        Raises:
            StoreVersionError: the store is newer than this lmtrace.
            StoreError: its description is damaged.
        """
        try:
            text = self.description.read_bytes()
        except FileNotFoundError:
            return
        version = _format_of(text)
        if version is None:
            raise StoreError(f"{self.description} is damaged; delete it, and the next call writes it again")
        if version > STORE_FORMAT:
            raise StoreVersionError(
                f"the store {self.root} has format {version}, and this lmtrace reads up to {STORE_FORMAT}: "
                "upgrade lmtrace, or choose another store with LMTRACE_STORE"
            )


def write_whole(path: Path, *pieces: bytes) -> None:
    """Write a file so that readers see all of it or nothing.

    Raises:
        OSError: it could not be written; no part of it is left behind.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(fd)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a power loss, where folders can be synced."""
    if os.name == "nt":
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _description() -> bytes:
    created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return frame(b'{"format":%d,"created":"%s"}' % (STORE_FORMAT, created.encode()))


def _format_of(text: bytes) -> int | None:
    import json

    try:
        description: Any = json.loads(text)
        version = description["format"]
    except (ValueError, KeyError, TypeError):
        return None
    intact = "crc32" not in description or is_intact(text.rstrip(b"\n"))
    return version if intact and isinstance(version, int) else None
