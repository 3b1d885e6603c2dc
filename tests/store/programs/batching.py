"""Exports rows to a batching exporter, says how many were flushed, and exports on until it is killed."""

import itertools
import sys

import orjson

from lmtrace._exporter import Record
from lmtrace_exporters import DuckDBExporter, ParquetExporter

sink = {"duckdb": DuckDBExporter, "parquet": ParquetExporter}[sys.argv[1]](sys.argv[2], seconds=0.01)
for number in itertools.count():
    row = {"kind": "call", "uuid": f"u{number}", "timestamp": "2026-11-21T09:15:00Z", "prompt": "x" * 2_000}
    sink.export([Record("call", orjson.dumps(row))])
    if number == 500:
        assert sink.force_flush()
        sys.stdout.write(f"{number + 1}\n")
        sys.stdout.flush()
    if number > 500 and number % 1_000 == 0:
        sink.force_flush()
