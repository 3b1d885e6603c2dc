"""The files of one test: its own cassette and transcript, which syrupy looks after, or a cassette the user has named.

Syrupy must hear of a test's own cassette whatever becomes of the test, or it takes the file for an obsolete one and
``--snapshot-update`` removes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from syrupy.assertion import SnapshotAssertion
    from syrupy.extensions.base import AbstractSyrupyExtension

    from lmtrace_replay._plan import Plan

_NEEDED = "lmtrace's pytest plugin keeps its files with syrupy, which is not {state}: pip install 'lmtrace[pytest]'"


class CassetteFile(Protocol):
    """Where a test's answers are."""

    path: Path
    is_own: bool
    """Whether no other test has it, so that a recording this test does not ask for is used by none."""

    def read(self) -> bytes | None:
        """The whole file, or None when there is no cassette yet."""

    def settle(self, text: str, *, write: bool = False) -> bool:
        """Say what the cassette should hold; whether it does, or does now because it was written.

        Args:
            text: The whole file.
            write: Whether to write it if it differs; ``--snapshot-update`` writes a test's own anyway.
        """

    def keep(self) -> None:
        """Leave the file as it is, if nothing was said about it: the test did not get so far."""


def cassette_file(item: pytest.Item, plan: Plan) -> CassetteFile:
    """The cassette of a test.

    Raises:
        pytest.UsageError: syrupy is missing, or the test would record over the cassette of another.
    """
    if plan.cassette is None:
        return _OwnFile(item)
    if plan.records:
        _check_alone(item, plan.cassette)
    return _NamedFile(plan.cassette)


def transcript_assertion(item: pytest.Item, *, write: bool = False) -> SnapshotAssertion:
    """What a test compares its calls with.

    Args:
        item: The test.
        write: Whether to write what was asked if it differs, as ``--snapshot-update`` does.

    Raises:
        pytest.UsageError: syrupy is missing.
    """
    _require_syrupy(item.config)
    from lmtrace_replay._syrupy import TranscriptExtension

    assertion = _assertion(item, TranscriptExtension)
    assertion.update_snapshots = assertion.update_snapshots or write
    return assertion


def keep_files(item: pytest.Item) -> None:
    """Leave the files of a test as they are whose fixtures failed before it had a replay."""
    try:
        _require_syrupy(item.config)
    except pytest.UsageError:
        return
    from lmtrace_replay._syrupy import CassetteExtension, TranscriptExtension

    for extension in (CassetteExtension, TranscriptExtension):
        keep_rest(_assertion(item, extension))


def keep_rest(assertion: SnapshotAssertion) -> None:
    """Leave the files as they are that a test has, and did not get to compare with anything."""
    while (content := _content(_place(assertion))) is not None:
        _ = assertion == Verbatim(content.decode("utf-8", "replace"))


class Verbatim(str):
    """The text of a file, in the place of what it is made from."""

    __slots__ = ()


class _OwnFile:
    is_own = True

    def __init__(self, item: pytest.Item) -> None:
        _require_syrupy(item.config)
        from lmtrace_replay._syrupy import CassetteExtension

        self._assertion = _assertion(item, CassetteExtension)
        self.path = _place(self._assertion)
        self._is_settled = False

    def read(self) -> bytes | None:
        return _content(self.path)

    def settle(self, text: str, *, write: bool = False) -> bool:
        self._is_settled = True
        self._assertion.update_snapshots = self._assertion.update_snapshots or write
        return bool(self._assertion == text)

    def keep(self) -> None:
        if not self._is_settled:
            keep_rest(self._assertion)


class _NamedFile:
    is_own = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> bytes | None:
        return _content(self.path)

    def settle(self, text: str, *, write: bool = False) -> bool:
        if write:
            from lmtrace_replay._cassette import write_text

            write_text(self.path, text)
        return True

    def keep(self) -> None:
        """Nobody else looks after it."""


def _place(assertion: SnapshotAssertion) -> Path:
    """Where the next comparison looks."""
    location = assertion.extension.get_location(test_location=assertion.test_location, index=assertion.num_executions)
    return Path(location)


def _content(path: Path) -> bytes | None:
    from lmtrace_replay._cassette import without_crlf

    try:
        return without_crlf(path.read_bytes())
    except FileNotFoundError:
        return None


def _check_alone(item: pytest.Item, path: Path) -> None:
    from lmtrace_replay._plan import named_cassette

    others = sum(named_cassette(other) == path for other in item.session.items)
    if others > 1:
        raise pytest.UsageError(
            f"{path.name} is the cassette of {others} tests, and each would record over the others: give each its own, by "
            "leaving the name out, or record one and replay the others"
        )


def _require_syrupy(config: pytest.Config) -> None:
    try:
        import syrupy  # noqa: F401  # is it there?
    except ImportError:
        raise pytest.UsageError(_NEEDED.format(state="installed")) from None
    if not hasattr(config, "_syrupy"):
        raise pytest.UsageError(_NEEDED.format(state="active here (-p no:syrupy?)"))


def _assertion(item: pytest.Item, extension: type[AbstractSyrupyExtension]) -> SnapshotAssertion:
    from syrupy.assertion import SnapshotAssertion
    from syrupy.location import PyTestLocation

    assertion = SnapshotAssertion(
        session=item.config._syrupy,  # type: ignore[attr-defined]  # where syrupy's own fixture finds it
        extension_class=extension,
        test_location=PyTestLocation(item),
        update_snapshots=item.config.option.update_snapshots,
    )
    assertion.update_new_snapshots_only = getattr(item.config.option, "update_new_snapshots_only", False)
    return assertion
