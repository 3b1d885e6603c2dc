"""Where finished records go, and how they are read again.

`StoreExporter` keeps them in a store directory that survives crashes, `open_history` reads it with SQL, `compact` turns
its journals into Parquet, `setup_otlp` sends telemetry to a collector. Importing this package loads none of what they
need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmtrace_exporters._compaction import CompactionReport as CompactionReport
    from lmtrace_exporters._compaction import compact as compact
    from lmtrace_exporters._errors import HistoryQueryError as HistoryQueryError
    from lmtrace_exporters._errors import StoreError as StoreError
    from lmtrace_exporters._errors import StoreVersionError as StoreVersionError
    from lmtrace_exporters._export import export_history as export_history
    from lmtrace_exporters._history import History as History
    from lmtrace_exporters._history import open_history as open_history
    from lmtrace_exporters._jsonl import JSONLExporter as JSONLExporter
    from lmtrace_exporters._memory import InMemoryExporter as InMemoryExporter
    from lmtrace_exporters._otlp import Otlp as Otlp
    from lmtrace_exporters._otlp import setup_otlp as setup_otlp
    from lmtrace_exporters._snapshot import Problem as Problem
    from lmtrace_exporters._store import StoreExporter as StoreExporter

_HOMES = {
    "CompactionReport": "_compaction",
    "History": "_history",
    "HistoryQueryError": "_errors",
    "InMemoryExporter": "_memory",
    "JSONLExporter": "_jsonl",
    "Otlp": "_otlp",
    "Problem": "_snapshot",
    "StoreError": "_errors",
    "StoreExporter": "_store",
    "StoreVersionError": "_errors",
    "compact": "_compaction",
    "export_history": "_export",
    "open_history": "_history",
    "setup_otlp": "_otlp",
}
"""The private module of each public name."""

__all__ = [
    "CompactionReport",
    "History",
    "HistoryQueryError",
    "InMemoryExporter",
    "JSONLExporter",
    "Otlp",
    "Problem",
    "StoreError",
    "StoreExporter",
    "StoreVersionError",
    "compact",
    "export_history",
    "open_history",
    "setup_otlp",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
