"""Where finished records go, and how they are read again.

`StoreExporter` keeps them in a store directory that survives crashes, `open_history` reads it with SQL, `compact` turns
its journals into Parquet, `setup_otlp` sends telemetry to a collector. `DuckDBExporter`, `ParquetExporter`,
`JSONLExporter`, `OTLPExporter` and `InMemoryExporter` bring rows elsewhere, too: pass one to
``lmtrace.configure(exporters=[…])``. Importing this package loads none of what they need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmtrace_exporters._backup import BackupReport as BackupReport
    from lmtrace_exporters._backup import backup as backup
    from lmtrace_exporters._compaction import CompactionReport as CompactionReport
    from lmtrace_exporters._compaction import compact as compact
    from lmtrace_exporters._database import DuckDBExporter as DuckDBExporter
    from lmtrace_exporters._errors import HistoryQueryError as HistoryQueryError
    from lmtrace_exporters._errors import QueryLimitError as QueryLimitError
    from lmtrace_exporters._errors import QueryRefusedError as QueryRefusedError
    from lmtrace_exporters._errors import StoreError as StoreError
    from lmtrace_exporters._errors import StoreVersionError as StoreVersionError
    from lmtrace_exporters._export import export_history as export_history
    from lmtrace_exporters._export import resend as resend
    from lmtrace_exporters._history import Fetched as Fetched
    from lmtrace_exporters._history import History as History
    from lmtrace_exporters._history import open_history as open_history
    from lmtrace_exporters._import import ImportReport as ImportReport
    from lmtrace_exporters._import import import_history as import_history
    from lmtrace_exporters._jsonl import JSONLExporter as JSONLExporter
    from lmtrace_exporters._memory import InMemoryExporter as InMemoryExporter
    from lmtrace_exporters._otlp import Otlp as Otlp
    from lmtrace_exporters._otlp import setup_otlp as setup_otlp
    from lmtrace_exporters._otlp_exporter import OTLPExporter as OTLPExporter
    from lmtrace_exporters._parquet_folder import ParquetExporter as ParquetExporter
    from lmtrace_exporters._repair import RebuildReport as RebuildReport
    from lmtrace_exporters._repair import rebuild_catalog as rebuild_catalog
    from lmtrace_exporters._retention import RetentionReport as RetentionReport
    from lmtrace_exporters._retention import collect_garbage as collect_garbage
    from lmtrace_exporters._snapshot import Problem as Problem
    from lmtrace_exporters._store import StoreExporter as StoreExporter
    from lmtrace_exporters._untrusted import UntrustedAnswer as UntrustedAnswer
    from lmtrace_exporters._untrusted import query_untrusted as query_untrusted
    from lmtrace_exporters._verify import VerifyReport as VerifyReport
    from lmtrace_exporters._verify import verify as verify

_HOMES = {
    "BackupReport": "_backup",
    "CompactionReport": "_compaction",
    "DuckDBExporter": "_database",
    "Fetched": "_history",
    "History": "_history",
    "HistoryQueryError": "_errors",
    "ImportReport": "_import",
    "InMemoryExporter": "_memory",
    "JSONLExporter": "_jsonl",
    "OTLPExporter": "_otlp_exporter",
    "Otlp": "_otlp",
    "ParquetExporter": "_parquet_folder",
    "Problem": "_snapshot",
    "QueryLimitError": "_errors",
    "QueryRefusedError": "_errors",
    "RebuildReport": "_repair",
    "RetentionReport": "_retention",
    "StoreError": "_errors",
    "StoreExporter": "_store",
    "StoreVersionError": "_errors",
    "UntrustedAnswer": "_untrusted",
    "VerifyReport": "_verify",
    "backup": "_backup",
    "collect_garbage": "_retention",
    "compact": "_compaction",
    "export_history": "_export",
    "import_history": "_import",
    "open_history": "_history",
    "query_untrusted": "_untrusted",
    "rebuild_catalog": "_repair",
    "resend": "_export",
    "setup_otlp": "_otlp",
    "verify": "_verify",
}
"""The private module of each public name."""

__all__ = [
    "BackupReport",
    "CompactionReport",
    "DuckDBExporter",
    "Fetched",
    "History",
    "HistoryQueryError",
    "ImportReport",
    "InMemoryExporter",
    "JSONLExporter",
    "OTLPExporter",
    "Otlp",
    "ParquetExporter",
    "Problem",
    "QueryLimitError",
    "QueryRefusedError",
    "RebuildReport",
    "RetentionReport",
    "StoreError",
    "StoreExporter",
    "StoreVersionError",
    "UntrustedAnswer",
    "VerifyReport",
    "backup",
    "collect_garbage",
    "compact",
    "export_history",
    "import_history",
    "open_history",
    "query_untrusted",
    "rebuild_catalog",
    "resend",
    "setup_otlp",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
