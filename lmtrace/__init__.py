"""Every LM call becomes one OpenTelemetry span, one durable history row, and one recording that can be served again.

Names are imported on first use: importing this package costs a few milliseconds and no other package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmtrace._version import __version__

if TYPE_CHECKING:
    from lmtrace._backend import Backend
    from lmtrace._candidates import Candidate
    from lmtrace._configure import configure, flush, shutdown, stats
    from lmtrace._conversation import conversation
    from lmtrace._data import LMChunk, LMOutput, LMRequest, LMResponse, LMTextPart, LMToolCallPart, LMUsage
    from lmtrace._entry import HistoryEntry
    from lmtrace._errors import (
        ContextWindowExceededError,
        LMAuthError,
        LMBillingError,
        LMConfigurationError,
        LMError,
        LMInvalidRequestError,
        LMNotConfiguredError,
        LMProviderError,
        LMRateLimitError,
        LMServerError,
        LMTimeoutError,
        LMTraceError,
        LMTransportError,
        LMUnexpectedError,
        LMUnsupportedFeatureError,
        LMUnsupportedModelError,
        SettingsError,
        UnknownOptionError,
    )
    from lmtrace._exporter import Exporter, Record
    from lmtrace._history import inspect_history
    from lmtrace._instrument import instrument, uninstrument
    from lmtrace._lm import LM
    from lmtrace._runs import Run, run
    from lmtrace._scope import caller_module
    from lmtrace._stored import history, replay
    from lmtrace._stream import LMAsyncStream, LMStream
    from lmtrace.integrations.dspy._callback import Callback

_HOMES = {
    "Backend": "_backend",
    "Callback": "integrations.dspy._callback",
    "Candidate": "_candidates",
    "ContextWindowExceededError": "_errors",
    "Exporter": "_exporter",
    "HistoryEntry": "_entry",
    "LM": "_lm",
    "LMAsyncStream": "_stream",
    "LMAuthError": "_errors",
    "LMBillingError": "_errors",
    "LMChunk": "_data",
    "LMConfigurationError": "_errors",
    "LMError": "_errors",
    "LMInvalidRequestError": "_errors",
    "LMNotConfiguredError": "_errors",
    "LMOutput": "_data",
    "LMProviderError": "_errors",
    "LMRateLimitError": "_errors",
    "LMRequest": "_data",
    "LMResponse": "_data",
    "LMServerError": "_errors",
    "LMStream": "_stream",
    "LMTextPart": "_data",
    "LMTimeoutError": "_errors",
    "LMToolCallPart": "_data",
    "LMTraceError": "_errors",
    "LMTransportError": "_errors",
    "LMUnexpectedError": "_errors",
    "LMUnsupportedFeatureError": "_errors",
    "LMUnsupportedModelError": "_errors",
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
    "replay": "_stored",
    "run": "_runs",
    "shutdown": "_configure",
    "stats": "_configure",
    "uninstrument": "_instrument",
}

__all__ = [
    "LM",
    "Backend",
    "Callback",
    "Candidate",
    "ContextWindowExceededError",
    "Exporter",
    "HistoryEntry",
    "LMAsyncStream",
    "LMAuthError",
    "LMBillingError",
    "LMChunk",
    "LMConfigurationError",
    "LMError",
    "LMInvalidRequestError",
    "LMNotConfiguredError",
    "LMOutput",
    "LMProviderError",
    "LMRateLimitError",
    "LMRequest",
    "LMResponse",
    "LMServerError",
    "LMStream",
    "LMTextPart",
    "LMTimeoutError",
    "LMToolCallPart",
    "LMTraceError",
    "LMTransportError",
    "LMUnexpectedError",
    "LMUnsupportedFeatureError",
    "LMUnsupportedModelError",
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
    "replay",
    "run",
    "shutdown",
    "stats",
    "uninstrument",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "dspy":  # not in `__all__`: a star import must not hide the package of that name
        return import_module("lmtrace.dspy")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'lmtrace' has no attribute {name!r}")
    value = getattr(import_module(f"lmtrace.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
