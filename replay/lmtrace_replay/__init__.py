"""Recorded answers in the place of a provider.

`ReplayMiss` is what a request without a recorded answer raises under replay. Names are imported on first use: pytest runs
this module in every session on the user's machine.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmtrace_replay._cache import Cache as Cache
    from lmtrace_replay._cache_backend import CacheBackend as CacheBackend
    from lmtrace_replay._miss import Miss as Miss
    from lmtrace_replay._miss import ReplayMiss as ReplayMiss
    from lmtrace_replay._open_cache import open_cache as open_cache

_HOMES = {
    "Cache": "_cache",
    "CacheBackend": "_cache_backend",
    "Miss": "_miss",
    "ReplayMiss": "_miss",
    "open_cache": "_open_cache",
}
"""The private module of each public name."""

__all__ = [
    "Cache",
    "CacheBackend",
    "Miss",
    "ReplayMiss",
    "open_cache",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
