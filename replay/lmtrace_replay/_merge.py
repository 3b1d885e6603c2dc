"""One cassette of several: each call once, and a header that holds for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import orjson

from lmtrace_replay._format import Header
from lmtrace_replay._recording import Recording
from lmtrace_replay._tidy import tidy


def merged(sources: Iterable[Sequence[Recording]]) -> list[Recording]:
    """The recordings of all sources in their order; one that several hold is there as often as in that with most of it."""
    found: list[Recording] = []
    have: Counter[bytes] = Counter()
    for recordings in sources:
        seen: Counter[bytes] = Counter()
        for recording in recordings:
            identity = _identity(recording)
            seen[identity] += 1
            if seen[identity] > have[identity]:
                have[identity] += 1
                found.append(recording)
    return found


def _identity(recording: Recording) -> bytes:
    return orjson.dumps(tidy(recording.to_wire()), option=orjson.OPT_SORT_KEYS)


def merged_header(headers: Sequence[Header]) -> Header:
    """The header for the calls of several cassettes: the newest of each version, and the adapter where they agree."""
    versions: dict[str, str] = {}
    for header in headers:
        for name, version in header.versions.items():
            versions[name] = max(versions.get(name, version), version, key=_release)
    adapters = {header.adapter for header in headers}
    return Header(
        versions=versions,
        adapter=adapters.pop() if len(adapters) == 1 else None,
        cancelled=tuple(sorted({key for header in headers for key in header.cancelled})),
    )


def _release(version: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in version.split(".")]
