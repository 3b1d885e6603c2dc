"""The cache of a process: answers by request, in memory and in the store's index, and the calls under way.

Whatever fails in here is noted and the call goes on to the provider. What the index holds is what a row may hold: an answer
that a redactor of the user's would change stays in memory, and so does everything when rows keep no content.
"""

from __future__ import annotations

import hashlib
import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from lmtrace._caching import LITELLM
from lmtrace._data import LMRequest, LMResponse
from lmtrace._failures import failures
from lmtrace._keys import canonical
from lmtrace._large import find
from lmtrace._parameters import identifier
from lmtrace._redactor import Redactor
from lmtrace_replay._cached import CachedAnswer, Step, parsed, serialised
from lmtrace_replay._flights import Flights
from lmtrace_replay._index import Index
from lmtrace_replay._memory import MemoryTier

LARGEST: Final = 64 << 20
"""Bytes of the largest answer that the index takes."""

_caches: weakref.WeakSet[Cache] = weakref.WeakSet()


class Cache:
    """Answers that were given before.

    Args:
        memory: The first place to look.
        index: The second, or None where nothing may be written.
        redactor: What rows are redacted with.
        ttl_ns: Age at which an answer counts no more; None for never.
        time_ns: The clock.
    """

    def __init__(
        self,
        memory: MemoryTier,
        index: Index | None = None,
        *,
        redactor: Redactor | None = None,
        ttl_ns: int | None = None,
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.memory = memory
        self.index = index
        self.flights: Flights[CachedAnswer] = Flights()
        self._redactor = redactor or Redactor()
        self._ttl_ns = ttl_ns
        self._time_ns = time_ns
        _caches.add(self)

    def find(self, key: bytes, *, shared: bool = True) -> CachedAnswer | None:
        """The answer kept under `key`, looked for in the index only if it is `shared`. Never raises."""
        try:
            return self._in_memory(key) or (self._in_index(key) if shared else None)
        except Exception as error:
            failures.note("reading the cache", error)
            return None

    def _in_memory(self, key: bytes) -> CachedAnswer | None:
        answer = self.memory.get(key)
        if answer is not None and self._ttl_ns is not None and answer.created_ns < self._time_ns() - self._ttl_ns:
            self.memory.discard(key)
            return None
        return answer

    def _in_index(self, key: bytes) -> CachedAnswer | None:
        found = None if self.index is None else self.index.get(key)
        if found is None:
            return None
        created_ns, text = found
        answer = parsed(text, created_ns)
        self.memory.put(key, answer)
        return answer

    def keep(
        self,
        key: bytes,
        response: LMResponse,
        secrets: Mapping[str, Any],
        steps: Sequence[Step] = (),
        *,
        shared: bool = True,
    ) -> CachedAnswer | None:
        """Keep an answer of the provider; None when it cannot be given again as it is. Never raises.

        One that repeats a credential of its call is not kept: the record of a call with other ones would not know it.
        """
        try:
            text = serialised(response, steps) if type(response) is LMResponse else None
            if text is None or self._redactor.line(text, secrets) != text:
                return None
            answer = parsed(text, self._time_ns())
            self.memory.put(key, answer)
        except Exception as error:
            failures.note("keeping an answer in the cache", error)
            return None
        if shared and self.index is not None and len(text) <= LARGEST:
            self._write(self.index, key, text, answer.created_ns)
        return answer

    def _write(self, index: Index, key: bytes, text: bytes, created_ns: int) -> None:
        try:
            if self._may_be_written(text):
                index.put(key, text, created_ns)
        except Exception as error:
            failures.note("writing the cache index", error)

    def _may_be_written(self, text: bytes) -> bool:
        """Whether a row would hold it as it is."""
        if not self._redactor.custom:
            return True
        plain = orjson.loads(text)
        return bool(self._redactor.walk(plain) == plain)

    def stats(self) -> dict[str, Any]:
        """What the cache has done in this process, and what its memory holds."""
        index = self.index
        figures = {"memory_hits": self.memory.hits, "memory_misses": self.memory.misses}
        figures |= {"memory_entries": len(self.memory), "memory_bytes": self.memory.bytes}
        if index is not None:
            figures |= {"index_hits": index.hits, "index_writes": index.writes, "index_dropped": index.dropped}
        return figures

    def close(self) -> None:
        """Write what waits to be written, and close the index."""
        if self.index is not None:
            try:
                self.index.flush()
                self.index.close()
            except Exception as error:
                failures.note("closing the cache index", error)

    def in_child(self) -> None:
        """After a fork."""
        self.memory.in_child()
        self.flights.in_child()
        if self.index is not None:
            self.index.in_child()


def entry_key(request_key: str, rollout_id: Any = None, name: str = LITELLM) -> bytes:
    """The 32 bytes an answer is kept under.

    Args:
        request_key: That of the request.
        rollout_id: Its rollout, None for none: an answer to one is never given to another.
        name: Who answers.
    """
    digest = bytes.fromhex(request_key.rpartition(":")[2])
    if rollout_id is None and name == LITELLM:
        return digest
    rollout = None if rollout_id is None else identifier(rollout_id)
    return hashlib.sha256(digest + orjson.dumps([rollout, name])).digest()


def is_exact(request: LMRequest) -> bool:
    """Whether the key says all that was asked; an object known by its type's name only could be any of them."""
    if all(map(_is_plain, request.kwargs.values())) and _is_plain(request.messages):
        return True
    return not find(canonical(request), b'["lossy",true]')


_TEXTS: Final = frozenset({str, int, float, bool, type(None)})


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Whether `value` is JSON as it is; False where that would take long to tell."""
    kind = type(value)
    if kind in _TEXTS:
        return True
    if depth > 8:
        return False
    if kind is dict:
        return all(type(item) in _TEXTS or _is_plain(item, depth + 1) for item in value.values())
    return (kind is list or kind is tuple) and all(_is_plain(item, depth + 1) for item in value)


def _in_child() -> None:
    for cache in list(_caches):
        cache.in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
