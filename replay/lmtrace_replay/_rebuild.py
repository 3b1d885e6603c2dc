"""Make the index again from the rows of the store: those whose calls allowed it, and whose answers are whole.

Runs as a process of its own (``python -m lmtrace_replay._rebuild STORE``), so that the memory and the processor time of
reading a long history stay out of the program that found the index missing. It writes in short turns beside everybody else,
and an entry that is there already stays.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import orjson

from lmtrace._data import LMResponse
from lmtrace._keys import KEY_VERSION
from lmtrace._secrets import REDACTED
from lmtrace_replay._cache import entry_key
from lmtrace_replay._cached import is_whole, sealed
from lmtrace_replay._index import Entry, Index

_ROWS: Final = 200
_PATIENCE_S: Final = 30.0

_QUERY: Final = f"""
    SELECT request_key, cache_name, rollout_id, streamed, CAST(response AS VARCHAR), CAST(chunks AS VARCHAR), epoch_us(timestamp)
    FROM calls
    WHERE cache_name IS NOT NULL AND served_by = 'provider' AND error_type IS NULL AND response IS NOT NULL
      AND starts_with(request_key, '{KEY_VERSION}:')
"""  # noqa: S608 - a constant of ours


def rebuild(store: Path, index: Index) -> int:
    """Put the answers of a store's rows into its index; returns how many rows had one.

    Raises:
        LMTraceError: the store cannot be read.
        sqlite3.Error: the index cannot be written.
    """
    found = 0
    for entries in _batches(store):
        found += len(entries)
        index.put_many(entries)
        index.flush(_PATIENCE_S)
    return found


def _batches(store: Path) -> Iterator[list[Entry]]:
    from lmtrace_exporters import open_history

    with open_history(store) as history:
        rows = iter(history.sql(_QUERY).iter_rows())
        while batch := list(itertools.islice(rows, _ROWS)):
            yield [entry for row in batch if (entry := _entry(row)) is not None]


def _entry(row: tuple[Any, ...]) -> Entry | None:
    """The entry of a row, or None for one that does not hold the answer as it was."""
    request_key, name, rollout, streamed, response, chunks, made_us = row
    if REDACTED in response or '"lossy":true' in response:
        return None
    try:
        answer = LMResponse.from_wire(orjson.loads(response))
    except ValueError:  # over 1 MB and kept elsewhere, or written by a newer version
        return None
    if streamed and not is_whole(answer):
        return None
    text = b'{"response":' + response.encode() + (b',"steps":' + _steps(chunks) if chunks else b"") + b"}"
    return made_us * 1000, entry_key(request_key, rollout, name), sealed(text)


def _steps(chunks: str) -> bytes:
    """The pieces of a stream as the index has them."""
    found = [
        (chunk.get("text", ""), chunk.get("reasoning", ""), chunk.get("index", 0)) for chunk in orjson.loads(chunks)
    ]
    return orjson.dumps([step for step in found if step[0] or step[1]])


# --- in a process of its own ----------------------------------------------------------------------------------------


class _Detached(subprocess.Popen[bytes]):
    """A child that is meant to outlive its parent, so Python must not warn about it."""

    def __del__(self) -> None:
        """Do not warn."""


def start(store: Path) -> None:
    """Begin to rebuild the index of `store` beside this program; without an interpreter to run, do nothing."""
    if sys.executable:
        _Detached(
            [sys.executable, "-m", __name__, os.fspath(store)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=store,
            start_new_session=True,
        )


def main(arguments: list[str]) -> int:
    """Rebuild the index of the store that is named."""
    from lmtrace_replay._open_cache import INDEX_NAME

    with suppress(AttributeError, OSError):
        os.nice(10)
    store = Path(arguments[0])
    index = Index(store / INDEX_NAME, max_bytes=sys.maxsize)
    rebuild(store, index)
    index.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
