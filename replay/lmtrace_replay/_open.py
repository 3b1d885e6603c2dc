"""`replay()`: a session made from whatever holds recordings, and written back where that is a cassette."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lmtrace._errors import SettingsError
from lmtrace_replay._cassette import load, save
from lmtrace_replay._desk import RECORDING, Mode
from lmtrace_replay._format import Cassette, Header
from lmtrace_replay._matching import Order, Rollouts
from lmtrace_replay._recording import Normaliser, Recording
from lmtrace_replay._session import Session
from lmtrace_replay._sources import recordings_of

if TYPE_CHECKING:
    from lmtrace_replay._sources import Source

_TABLES: Final = frozenset({".parquet", ".jsonl", ".ndjson"})
"""Ends of files that hold recordings and are no cassettes."""


def replay(
    source: Source = (),
    *,
    mode: Mode = "replay",
    rollouts: Rollouts = "exact",
    order: Order = "any",
    normalisers: Sequence[Normaliser] = (),
    timing: bool = False,
    sample: float = 1.0,
    store: bool | None = None,
    where: str | None = None,
    fix: str | None = None,
) -> Session:
    """Recorded answers instead of the provider's, inside a ``with`` block; see `lmtrace.replay`."""
    records = mode in RECORDING
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    if path is not None and records and not _may_be_cassette(path):
        raise SettingsError(f"mode {mode!r} writes a cassette, and {path} is none: name the file to be written")
    found, header = _opened(source, path, may_lack=records or mode in ("live", "off"))
    return Session(
        found,
        mode=mode,
        rollouts=rollouts,
        order=order,
        normalisers=normalisers,
        timing=timing,
        sample=sample,
        store=store,
        where=where or (None if path is None else os.fspath(path)),
        fix=fix,
        header=header,
        save=None if path is None else functools.partial(save, path, timing=timing),
    )


def _may_be_cassette(path: Path) -> bool:
    return not path.is_dir() and path.suffix.lower() not in _TABLES


def _opened(source: Source, path: Path | None, *, may_lack: bool) -> tuple[Sequence[Recording], Header | None]:
    """The recordings in a source, and what they were made with where it says so."""
    if path is not None and may_lack and not path.exists():
        return (), None
    if path is not None and _may_be_cassette(path):
        source = load(path)
    return recordings_of(source), source.header if isinstance(source, Cassette) else None
