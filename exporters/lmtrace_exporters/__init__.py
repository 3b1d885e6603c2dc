"""Where finished records go, and how they are read again.

`StoreExporter` keeps them in a store directory that survives crashes, `open_history` reads it with SQL, `compact` turns
its journals into Parquet. Importing this package loads none of what they need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmtrace_exporters._errors import HistoryQueryError as HistoryQueryError
    from lmtrace_exporters._errors import StoreError as StoreError
    from lmtrace_exporters._errors import StoreVersionError as StoreVersionError
    from lmtrace_exporters._history import History as History
    from lmtrace_exporters._history import open_history as open_history
    from lmtrace_exporters._snapshot import Problem as Problem
    from lmtrace_exporters._store import StoreExporter as StoreExporter

_HOMES = {
    "History": "_history",
    "HistoryQueryError": "_errors",
    "Problem": "_snapshot",
    "StoreError": "_errors",
    "StoreExporter": "_store",
    "StoreVersionError": "_errors",
    "open_history": "_history",
}

__all__ = [
    "History",
    "HistoryQueryError",
    "Problem",
    "StoreError",
    "StoreExporter",
    "StoreVersionError",
    "open_history",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
