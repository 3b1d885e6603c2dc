"""The cache of this process, made from the settings when a call first asks for it and again when they have changed.

What a cache is, `lmtrace_replay` knows; here is only which one holds now. Clones of an `LM` and LMs of one store share it.
"""

from __future__ import annotations

import atexit
import itertools
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol

from lmtrace import _settings
from lmtrace._failures import failures

if TYPE_CHECKING:
    from lmtrace._backend import Backend


class Closable(Protocol):
    """What this module does with a cache."""

    def close(self) -> None: ...


LITELLM: Final = "litellm"
"""The name under which LiteLLM's answers are kept."""

_lock = threading.RLock()
_settings_seen: _settings.Settings | None = None
_current: Closable | None = None


def current() -> Closable | None:
    """The cache of this process, or None when the settings turn it off. Never raises."""
    settings = _settings.current()
    return _current if settings is _settings_seen else _renewed(settings)


def _renewed(settings: _settings.Settings) -> Closable | None:
    global _current, _settings_seen
    with _lock:
        if settings is _settings_seen:
            return _current
        if _settings_seen is None or _relevant(settings) != _relevant(_settings_seen):
            drop()
            _current = _built(settings)
        _settings_seen = settings
    return _current


def _built(settings: _settings.Settings) -> Closable | None:
    from lmtrace import _compose

    try:
        return _compose.build_cache(settings)
    except Exception as error:
        failures.note("setting up the cache", error)
        return None


def _relevant(settings: _settings.Settings) -> tuple[Any, ...]:
    return (
        settings.store,
        settings.capture,
        settings.redact,
        settings.cache,
        settings.cache_ttl,
        settings.cache_max_bytes,
        settings.cache_memory_bytes,
        settings.cache_memory_entries,
    )


def stats() -> dict[str, Any]:
    """What the cache of this process has done; empty when there is none yet. Never raises."""
    read = getattr(_current, "stats", None)
    try:
        return {} if read is None else dict(read())
    except Exception as error:
        failures.note("reading the cache's figures", error)
        return {}


@atexit.register
def drop() -> None:
    """Close the cache and forget what it had in memory; the next call makes one."""
    global _current, _settings_seen
    with _lock:
        before, _current, _settings_seen = _current, None, None
    if before is not None:
        before.close()


# --- whose answers --------------------------------------------------------------------------------------------------


def name_of(backend: Backend | None) -> str | None:
    """The name under which the answers of an LM's backend are kept for every process; None for those nobody can name.

    Args:
        backend: The LM's own, or None for LiteLLM. It has a name when it has a `cache_name`.
    """
    if backend is None:
        return LITELLM
    name = getattr(backend, "cache_name", None)
    return name if type(name) is str and name else None


def label_of(backend: Backend) -> str:
    """A name for a backend without one, which no other object in this process has or will have."""
    with _lock:
        try:
            return _labels.setdefault(backend, f"object {next(_numbers)}")
        except TypeError:  # not hashable, or not to be referred to weakly
            return f"object {next(_numbers)}"


_labels: weakref.WeakKeyDictionary[Backend, str] = weakref.WeakKeyDictionary()
_numbers = itertools.count()


def _in_child() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
