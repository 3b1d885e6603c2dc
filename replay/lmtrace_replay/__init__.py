"""Recorded answers in the place of a provider.

`ReplayMiss` is what a request without a recorded answer raises under replay. Names are imported on first use: pytest runs
this module in every session on the user's machine.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmtrace_replay._backend import ReplayBackend as ReplayBackend
    from lmtrace_replay._cache import Cache as Cache
    from lmtrace_replay._cache_backend import CacheBackend as CacheBackend
    from lmtrace_replay._desk import Desk as Desk
    from lmtrace_replay._desk import Mode as Mode
    from lmtrace_replay._desk import Stale as Stale
    from lmtrace_replay._errors import CassetteError as CassetteError
    from lmtrace_replay._errors import CassetteSecretError as CassetteSecretError
    from lmtrace_replay._errors import CassetteTamperedError as CassetteTamperedError
    from lmtrace_replay._errors import CassetteVersionError as CassetteVersionError
    from lmtrace_replay._matching import Recordings as Recordings
    from lmtrace_replay._miss import Miss as Miss
    from lmtrace_replay._miss import ReplayMiss as ReplayMiss
    from lmtrace_replay._open import replay as replay
    from lmtrace_replay._open_cache import open_cache as open_cache
    from lmtrace_replay._recording import RecordedChunk as RecordedChunk
    from lmtrace_replay._recording import RecordedError as RecordedError
    from lmtrace_replay._recording import Recording as Recording
    from lmtrace_replay._session import ReplayRegression as ReplayRegression
    from lmtrace_replay._session import Session as Session
    from lmtrace_replay._verify import Verdict as Verdict

_HOMES = {
    "Cache": "_cache",
    "CacheBackend": "_cache_backend",
    "CassetteError": "_errors",
    "CassetteSecretError": "_errors",
    "CassetteTamperedError": "_errors",
    "CassetteVersionError": "_errors",
    "Desk": "_desk",
    "Miss": "_miss",
    "Mode": "_desk",
    "RecordedChunk": "_recording",
    "RecordedError": "_recording",
    "Recording": "_recording",
    "Recordings": "_matching",
    "ReplayBackend": "_backend",
    "ReplayMiss": "_miss",
    "open_cache": "_open_cache",
    "ReplayRegression": "_session",
    "Session": "_session",
    "Stale": "_desk",
    "Verdict": "_verify",
    "replay": "_open",
}
"""The private module of each public name."""

__all__ = [
    "Cache",
    "CacheBackend",
    "CassetteError",
    "CassetteSecretError",
    "CassetteTamperedError",
    "CassetteVersionError",
    "Desk",
    "Miss",
    "Mode",
    "RecordedChunk",
    "RecordedError",
    "Recording",
    "Recordings",
    "ReplayBackend",
    "ReplayMiss",
    "ReplayRegression",
    "Session",
    "Stale",
    "Verdict",
    "open_cache",
    "replay",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
