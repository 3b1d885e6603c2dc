"""An exporter that keeps rows and spans for a test to read."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lmtrace._exporter import Record

KEY = "sk-canary-000000000000000000000000"


class Captured:
    """Everything that was recorded; an exporter."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: list[dict[str, Any]] = []
        self.span_exporter = InMemorySpanExporter()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.span_exporter))

    def export(self, records: Sequence[Record]) -> None:
        with self._lock:
            self._rows.extend(json.loads(record.line) for record in records)

    def force_flush(self, timeout_millis: float = 0) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 0) -> None:
        return None

    @property
    def rows(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self._rows)

    @property
    def row(self) -> dict[str, Any]:
        """The only row."""
        (row,) = self.rows
        return row

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.span_exporter.get_finished_spans()

    def wait_for(self, rows: int) -> None:
        """Block until so many rows are there; what nobody references is collected meanwhile."""
        deadline = time.monotonic() + 60
        while len(self.rows) < rows:
            assert time.monotonic() < deadline, f"{len(self.rows)} of {rows} rows arrived"
            gc.collect()
            threading.Event().wait(0.01)
