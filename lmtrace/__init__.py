"""Every LM call becomes one OpenTelemetry span, one durable history row, and one recording that can be served again.

Names are imported on first use: importing this package costs a few milliseconds and no other package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmtrace._version import __version__

if TYPE_CHECKING:
    from lmtrace._backend import Backend
    from lmtrace._configure import configure, flush, shutdown, stats
    from lmtrace._conversation import conversation
    from lmtrace._data import LMChunk, LMOutput, LMRequest, LMResponse, LMTextPart, LMToolCallPart, LMUsage
    from lmtrace._entry import HistoryEntry
    from lmtrace._errors import (
        ContextWindowExceededError,
        LMError,
        LMTraceError,
        LMUnsupportedFeatureError,
        SettingsError,
        UnknownOptionError,
    )
    from lmtrace._exporter import Exporter, Record
    from lmtrace._history import inspect_history
    from lmtrace._instrument import instrument, uninstrument
    from lmtrace._lm import LM
    from lmtrace._runs import Run, run
    from lmtrace._scope import caller_module
    from lmtrace._stored import history

_HOMES = {
    "Backend": "_backend",
    "ContextWindowExceededError": "_errors",
    "Exporter": "_exporter",
    "HistoryEntry": "_entry",
    "LM": "_lm",
    "LMChunk": "_data",
    "LMError": "_errors",
    "LMOutput": "_data",
    "LMRequest": "_data",
    "LMResponse": "_data",
    "LMTextPart": "_data",
    "LMToolCallPart": "_data",
    "LMTraceError": "_errors",
    "LMUnsupportedFeatureError": "_errors",
    "LMUsage": "_data",
    "Record": "_exporter",
    "Run": "_runs",
    "SettingsError": "_errors",
    "UnknownOptionError": "_errors",
    "caller_module": "_scope",
    "configure": "_configure",
    "conversation": "_conversation",
    "flush": "_configure",
    "history": "_stored",
    "inspect_history": "_history",
    "instrument": "_instrument",
    "run": "_runs",
    "shutdown": "_configure",
    "stats": "_configure",
    "uninstrument": "_instrument",
}

__all__ = [
    "LM",
    "Backend",
    "ContextWindowExceededError",
    "Exporter",
    "HistoryEntry",
    "LMChunk",
    "LMError",
    "LMOutput",
    "LMRequest",
    "LMResponse",
    "LMTextPart",
    "LMToolCallPart",
    "LMTraceError",
    "LMUnsupportedFeatureError",
    "LMUsage",
    "Record",
    "Run",
    "SettingsError",
    "UnknownOptionError",
    "__version__",
    "caller_module",
    "configure",
    "conversation",
    "flush",
    "history",
    "inspect_history",
    "instrument",
    "run",
    "shutdown",
    "stats",
    "uninstrument",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'lmtrace' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"lmtrace.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
