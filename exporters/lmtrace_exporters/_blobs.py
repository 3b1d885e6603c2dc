"""Strings over 1 MB live once, by their hash, beside the rows that mention them.

A picture in base64 would otherwise be copied into every row of a conversation, and a reader of the newest rows would
load all of them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

import orjson

from lmtrace_exporters._layout import write_whole
from lmtrace_exporters._longstrings import long_strings, pieces

LARGE: Final = 1 << 20
"""Longer strings, in bytes of UTF-8, are moved out of their row."""

_MARK: Final = "$lmtrace"


def spill(line: bytes, folder: Path) -> bytes:
    """Return the record with its large strings replaced by references to files in `folder`.

    Raises:
        OSError: a payload could not be written.
        ValueError: the record is no JSON.
    """
    kept: list[bytes] = []
    done = 0
    for start, end in long_strings(line, LARGE):
        reference = _store(list(pieces(line, start)), folder)
        if reference is not None:
            kept += (line[done : start - 1], orjson.dumps(reference))
            done = end + 1
    return b"".join((*kept, line[done:])) if kept else line


def fetch(value: Any, folder: Path) -> Any:
    """Return `value` with references to payloads replaced by their text; a lost or changed payload stays a reference."""
    if isinstance(value, str) and value.startswith('{"$lmtrace":"blob",'):  # in a text column
        return fetch(orjson.loads(value), folder)
    if isinstance(value, list):
        return [fetch(item, folder) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get(_MARK) == "blob":
        return _read(value, folder)
    return {key: fetch(item, folder) for key, item in value.items()}


def _store(text: list[bytes], folder: Path) -> dict[str, Any] | None:
    size = sum(map(len, text))
    if size <= LARGE:
        return None
    hashed = hashlib.sha256()
    for piece in text:
        hashed.update(piece)
    digest = hashed.hexdigest()
    path = folder / digest
    if not path.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        write_whole(path, *text)
    return {_MARK: "blob", "sha256": digest, "bytes": size}


def _read(reference: dict[str, Any], folder: Path) -> Any:
    digest = str(reference.get("sha256"))
    if len(digest) != hashlib.sha256().digest_size * 2 or not digest.isalnum():
        return reference  # a name from an untrusted file is never followed out of the folder
    try:
        data = (folder / digest).read_bytes()
    except OSError:
        return reference
    return data.decode() if hashlib.sha256(data).hexdigest() == digest else reference
