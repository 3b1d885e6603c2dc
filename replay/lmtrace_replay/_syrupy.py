"""Cassettes and transcripts as snapshots of syrupy: one file for each test, in ``__snapshots__/<module>/``.

Syrupy knows which tests ran, finds what none of them uses, reports it and removes it with ``--snapshot-update``, also when
the tests are spread over processes by pytest-xdist; for that it must be able to import these classes by name and to make
them without arguments. What they store is plain text, written to a file beside and moved into place.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, cast

from syrupy.data import SnapshotCollection
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from syrupy.location import PyTestLocation

from lmtrace._entry import HistoryEntry
from lmtrace_replay._cassette import without_crlf, write_text
from lmtrace_replay._format import in_order
from lmtrace_replay._names import file_stem
from lmtrace_replay._snapshots import Verbatim
from lmtrace_replay._transcript import transcript


class _TextFile(SingleFileSnapshotExtension):
    """A text in a file whose name is safe on every file system."""

    _write_mode = WriteMode.TEXT

    @classmethod
    def get_snapshot_name(cls, *, test_location: PyTestLocation, index: Any = 0) -> str:
        suffix = f"[{index}]" if isinstance(index, str) else f".{index}" if index else ""
        return file_stem(f"{test_location.snapshot_name}{suffix}", twin=_has_twin(test_location))

    @classmethod
    def matches_test_location(cls, *, test_location: PyTestLocation, snapshot_location: str) -> bool:
        """Any file of the module's folder, for a test with parameters its own only: as syrupy's own extensions do."""
        path = Path(snapshot_location)
        if path.parent.name != test_location.basename or not test_location.matches_snapshot_site(snapshot_location):
            return False
        if not test_location.is_item_parametrized:
            return True
        name = test_location.snapshot_name
        return any(_is_of(path.stem, file_stem(name, twin=twin)) for twin in (False, True))

    @classmethod
    def write_snapshot(cls, **arguments: Any) -> None:
        """As syrupy does, without its warnings about names that were cut."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"\s*Can not relate snapshot")
            super().write_snapshot(**arguments)

    @classmethod
    def write_snapshot_collection(
        cls,
        *,
        snapshot_collection: SnapshotCollection,
        name_order: dict[str, int] | None = None,  # noqa: ARG003  # syrupy 7 passes it, syrupy 5 and 6 do not
    ) -> None:
        text = cast("str", next(iter(snapshot_collection)).data)
        write_text(snapshot_collection.location, text)

    def read_snapshot_data_from_location(
        self, *, snapshot_location: str, snapshot_name: str, session_id: str
    ) -> str | None:
        try:
            return without_crlf(Path(snapshot_location).read_bytes()).decode("utf-8")
        except FileNotFoundError:
            return None


class CassetteExtension(_TextFile):
    """What the models answered; the text is made by the cassette's format, before syrupy sees it."""

    file_extension = "cassette"

    def serialize(self, data: Any, **_: Any) -> str:
        return cast("str", data)


class TranscriptExtension(_TextFile):
    """What the program asked, from requests or from calls that have a `request`."""

    file_extension = "lmtx"

    def serialize(self, data: Any, *, matcher: Any = None, **_: Any) -> str:
        if isinstance(data, Verbatim):
            return str(data)
        calls = list(getattr(data, "calls", data))
        if all(isinstance(call, HistoryEntry) for call in calls):
            calls = in_order(calls)  # threads and tasks end as they please
        return transcript(
            (getattr(call, "request", call) for call in calls), lambda text: str(matcher(data=text, path=()))
        )


def _has_twin(location: PyTestLocation) -> bool:
    """Whether the module or class of a test has another name that differs by case only."""
    owners = (getattr(location.item, "module", None), getattr(location.item, "cls", None))
    names = [part.partition("[")[0] for part in location.snapshot_name.partition("[")[0].split(".")]
    return any(
        other != name and other.casefold() == name.casefold()
        for owner in owners
        if owner is not None
        for other in dir(owner)
        for name in names
    )


def _is_of(stem: str, name: str) -> bool:
    """Whether a file belongs to a test: the first of it, or a later or a named one."""
    return stem == name or stem.startswith((f"{name}.", f"{name}["))
