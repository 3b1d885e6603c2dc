"""From settings to a cache: the one place that puts its parts together."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from lmtrace._redactor import Redactor
from lmtrace_replay._cache import Cache
from lmtrace_replay._index import Index
from lmtrace_replay._memory import MemoryTier

INDEX_NAME: Final = "index.sqlite"

_STARTED: Final = time.time()


def open_cache(
    store: str | os.PathLike[str] | None = None,
    *,
    redact: Sequence[Any] = (),
    ttl_seconds: float | None = None,
    max_bytes: int = 10_000_000_000,
    memory_bytes: int = 64_000_000,
    memory_entries: int = 100_000,
    time_ns: Callable[[], int] = time.time_ns,
) -> Cache:
    """The cache of a store; nothing is opened or written before it is used.

    Args:
        store: The folder that has the index; None keeps answers in memory only.
        redact: The redactors of the rows: an answer they would change is not written.
        ttl_seconds: Age after which an answer counts no more; None for never.
        max_bytes: Size of the index, above which its oldest entries go.
        memory_bytes: Bytes of the answers in memory.
        memory_entries: How many answers are in memory.
        time_ns: The clock.
    """
    ttl_ns = None if ttl_seconds is None else int(ttl_seconds * 1e9)
    memory = MemoryTier(memory_entries, memory_bytes)
    index = None if store is None else open_index(Path(store), max_bytes=max_bytes, ttl_ns=ttl_ns, time_ns=time_ns)
    return Cache(memory, index, redactor=Redactor(redact), ttl_ns=ttl_ns, time_ns=time_ns)


def open_index(store: Path, *, max_bytes: int = 10_000_000_000, **options: Any) -> Index:
    """The index of a store, which is rebuilt beside the program when it turns out to be missing."""
    return Index(store / INDEX_NAME, max_bytes=max_bytes, on_create=partial(_rebuild_old, store), **options)


def _rebuild_old(store: Path) -> None:
    """Start a rebuild if the store has rows from before this process, which an index could have been made of."""
    if _has_older_rows(store):
        from lmtrace_replay._rebuild import start

        start(store)


def _has_older_rows(store: Path) -> bool:
    files = [path for pattern in ("journal/*.jsonl", "segments/*/*.parquet") for path in store.glob(pattern)]
    return any(path.stat().st_mtime < _STARTED for path in files if path.exists())
