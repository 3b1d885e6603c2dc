"""What recordings are being made with, as far as it can be known without importing anything."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from lmtrace._version import __version__
from lmtrace_replay._cause import adapter_of
from lmtrace_replay._format import Header
from lmtrace_replay._recording import Recording
from lmtrace_replay._texts import messages_of

PACKAGES: Final = ("dspy", "litellm")
"""Packages whose version changes prompts or answers."""


def current_header(recordings: Sequence[Recording], cancelled: Iterable[str] = ()) -> Header:
    """The header for recordings made now, by the packages that are imported.

    Args:
        recordings: What the cassette will hold.
        cancelled: Keys of requests that were cancelled; those that got an answer another time do not count.
    """
    versions = {"lmtrace": __version__}
    for name in PACKAGES:
        found = installed(name) if name in sys.modules else None
        if found is not None:
            versions[name] = found
    unanswered = set(cancelled)
    if unanswered:
        unanswered -= {recording.key() for recording in recordings}
    return Header(versions=versions, adapter=_adapter(recordings), cancelled=tuple(sorted(unanswered)))


def installed(name: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _adapter(recordings: Sequence[Recording]) -> str | None:
    """The DSPy adapter that wrote most of the prompts."""
    found = Counter(adapter_of(messages_of(recording.request)[:1]) for recording in recordings)
    del found[None]
    return min(found, key=lambda name: (-found[name], name or "")) if found else None
