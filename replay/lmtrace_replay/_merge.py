"""One cassette of several: those of a user, and the parts that processes wrote side by side.

Processes that record into one cassette must not write the same file. Each writes parts of its own beside it, one for each
owner (a test, usually), and who started them merges the parts: by owner, and inside a part as its calls were made. So the result
does not depend on which process ran what, or when it ended.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import orjson

from lmtrace_replay._cassette import load, save
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
    return Header(versions=versions, adapter=adapters.pop() if len(adapters) == 1 else None)


def _release(version: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in version.split(".")]


def write_part(
    path: str | os.PathLike[str], owner: str, recordings: Iterable[Recording], header: Header | None = None
) -> None:
    """Keep what `owner` recorded for the cassette at `path`, to be merged by `merge_parts`.

    Args:
        path: The cassette that all owners record into.
        owner: Who recorded: a test's id, or another name that no two of them share.
        recordings: What was recorded.
        header: What it was recorded with.

    Raises:
        CassetteError: it cannot be written, or holds something like a credential.
    """
    folder = parts_folder(path)
    save(folder / f"{_file_name(owner)}.cassette", recordings, header)


def merge_parts(path: str | os.PathLike[str], *, keep: bool = False) -> int:
    """Make the cassette at `path` of its parts, remove them, and return how many there were.

    Args:
        path: The cassette.
        keep: Whether what the cassette holds already stays.

    Raises:
        CassetteError: a part or the cassette cannot be read, or the cassette cannot be written.
    """
    folder = parts_folder(path)
    parts = [load(part) for part in sorted(folder.glob("*.cassette"))]
    if not parts:
        return 0
    if keep and Path(path).exists():
        parts.insert(0, load(path))
    recordings = [recording for part in parts for recording in part.recordings]
    save(path, recordings, merged_header([part.header for part in parts]))
    shutil.rmtree(folder)
    return len(parts)


def parts_folder(path: str | os.PathLike[str]) -> Path:
    """Where the parts of a cassette are until they are merged."""
    target = Path(path)
    return target.with_name(f".{target.name}.parts")


def _file_name(owner: str) -> str:
    """A file name that sorts as owners do, as far as names are short and plain, and is no path whatever they are."""
    plain = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in owner)
    return f"{plain[:100]}-{hashlib.sha256(owner.encode('utf-8', 'replace')).hexdigest()[:16]}"
