"""Everything lmtrace records in a block, in memory and the same in every run: for tests that compare whole spans and rows.

    with lmtrace.testing.capture() as captured:
        my_program()
    assert captured.spans == snapshot

Ids count from one and the clock ticks a millisecond each time it is read. Neither a store nor the environment's settings nor
the application's OpenTelemetry providers are used, and everything is as before when the block ends.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.sdk import _logs as logs_sdk
from opentelemetry.sdk._logs import export as logs_export
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Sampler

from lmtrace import _configure, _recorder, _settings
from lmtrace import _semconv as names
from lmtrace._data import LMRequest
from lmtrace._entry import HistoryEntry
from lmtrace._events import Events
from lmtrace._exporter import Record
from lmtrace._ids import Clock
from lmtrace._metrics import Metrics
from lmtrace._record import CallRecord
from lmtrace._recorder import Recorder

START_NS: Final = 1_767_225_600_000_000_000
"""Midnight UTC at the beginning of 2026, in nanoseconds since the epoch."""

_VARYING: Final = ("host", "pid", "lmtrace_version")
"""Columns that differ from machine to machine and version to version."""


def fixed_clock(start: int = START_NS, step: int = 1_000_000) -> Clock:
    """A clock that shows `start` and is `step` later each time it is read.

    Args:
        start: Nanoseconds since the epoch.
        step: Nanoseconds between one reading and the next.
    """
    return Clock(time_ns=itertools.count(start, step).__next__, perf_ns=itertools.count(0, step).__next__)


def counting_ids() -> Callable[[], str]:
    """A source of ids of the form of uuid7 texts: the first call gives number 1."""
    numbers = itertools.count(1)
    return lambda: f"00000000-0000-7000-8000-{next(numbers):012x}"


class Captured:
    """What was recorded so far; everything can be read during the block and after it."""

    def __init__(self, sampler: Sampler | None) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self._logs = logs_export.InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK's
        self._rows = _Rows()
        self._calls: list[CallRecord] = []
        self._traces = TracerProvider(sampler=sampler, id_generator=_CountingIds(), shutdown_on_exit=False)
        self._traces.add_span_processor(SimpleSpanProcessor(self._spans))
        self._meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self._loggers = logs_sdk.LoggerProvider(shutdown_on_exit=False)
        self._loggers.add_log_record_processor(logs_export.SimpleLogRecordProcessor(self._logs))

    @property
    def tracer(self) -> trace.Tracer:
        """A tracer for spans of the test's own, which the calls made inside them are nested in."""
        return self._traces.get_tracer("test")

    @property
    def finished_spans(self) -> tuple[ReadableSpan, ...]:
        """The spans as OpenTelemetry's SDK has them, times included, in the order they ended."""
        return self._spans.get_finished_spans()

    @property
    def spans(self) -> list[dict[str, Any]]:
        """The ended spans in the order they began, each with `name`, `kind`, ids, `status`, `attributes` and `events`."""
        return sorted(map(_span, self.finished_spans), key=lambda span: str(span["span_id"]))

    @property
    def records(self) -> list[Record]:
        """What exporters got: rows of calls and of everything else, serialised and redacted."""
        return list(self._rows.records)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of LM calls, by column, in the order the calls ended; without nulls, `host`, `pid`, `lmtrace_version`."""
        return [_row(record) for record in self._rows.records if record.kind == "call"]

    @property
    def span_rows(self) -> list[dict[str, Any]]:
        """The rows of everything else: runs."""
        return [_row(record) for record in self._rows.records if record.kind == "span"]

    @property
    def entries(self) -> list[HistoryEntry]:
        """The history entries of the ended calls, in the order the calls began."""
        return [call.entry for call in self._calls if call.entry is not None]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events emitted through OpenTelemetry's logs, each with `name`, ids and `attributes`."""
        return [_event(item.log_record) for item in self._logs.get_finished_logs()]

    def metrics(self) -> dict[str, list[dict[str, Any]]]:
        """The points of every metric that has some, by name: `attributes` and either `value` or `count` and `sum`."""
        data = self._reader.get_metrics_data()
        found = [
            metric
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        return {metric.name: [_point(point) for point in metric.data.data_points] for metric in found}


@contextmanager
def capture(
    *,
    sampler: Sampler | None = None,
    clock: Clock | None = None,
    new_id: Callable[[], str] | None = None,
    **settings: Any,
) -> Iterator[Captured]:
    """Record what happens in the block in memory, instead of where it would go.

    Args:
        sampler: Which spans are sampled; all by default. Rows and metrics do not depend on it.
        clock: Instead of a `fixed_clock`.
        new_id: Instead of `counting_ids`, for the ids of calls and runs.
        **settings: As for `lmtrace.configure`. Those not given have their defaults, whatever the environment says.

    Raises:
        SettingsError: a setting is unknown or its value not valid.
    """
    active = _settings.only({"store": None, **settings})
    captured = Captured(sampler)
    recorder = _CapturingRecorder(captured, active, clock or fixed_clock(), new_id or counting_ids())
    before, flags = _recorder.current_or_none(), dict(_configure._flags)
    settings_before = _settings.use(active)
    _recorder.replace(recorder)
    try:
        yield captured
    finally:
        if _recorder.current_or_none() is not recorder:  # the block called `configure`
            _configure._drop_recorder(None)
        _configure._flags.clear()
        _configure._flags.update(flags)
        _settings.use(settings_before)
        _recorder.replace(before)
        captured._meters.force_flush()


class _CapturingRecorder(Recorder):
    """A recorder that remembers the calls it was asked to record."""

    __slots__ = ("_captured",)

    def __init__(
        self, captured: Captured, settings: _settings.Settings, clock: Clock, new_id: Callable[[], str]
    ) -> None:
        self._captured = captured
        super().__init__(
            settings,
            tracer=captured._traces.get_tracer(names.SCOPE_NAME),
            exporters=(captured._rows, *settings.exporters),
            metrics=Metrics(captured._meters.get_meter(names.SCOPE_NAME), settings.metrics),
            events=Events(captured._loggers.get_logger(names.SCOPE_NAME), content=settings.content),
            clock=clock,
            new_id=new_id,
        )

    def start(self, request: LMRequest, secrets: Mapping[str, Any]) -> CallRecord:
        call = super().start(request, secrets)
        self._captured._calls.append(call)
        return call


class _Rows:
    """An exporter that keeps the records."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def export(self, records: Any) -> None:
        self.records.extend(records)

    def force_flush(self, timeout_millis: float = 0) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 0) -> None:
        """Nothing to close: the records stay."""


class _CountingIds(IdGenerator):
    """Trace ids and span ids that count from one."""

    def __init__(self) -> None:
        self._traces = itertools.count(1)
        self._spans = itertools.count(1)

    def generate_trace_id(self) -> int:
        return next(self._traces)

    def generate_span_id(self) -> int:
        return next(self._spans)


def _row(record: Record) -> dict[str, Any]:
    return {name: value for name, value in record.row.items() if name not in _VARYING and value is not None}


def _span(span: ReadableSpan) -> dict[str, Any]:
    context, status = span.context, span.status
    assert context is not None
    return {
        "name": span.name,
        "kind": span.kind.name,
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "parent_span_id": f"{span.parent.span_id:016x}" if span.parent is not None else None,
        "status": status.status_code.name
        if status.description is None
        else [status.status_code.name, status.description],
        "attributes": _plain(span.attributes),
        "events": [{"name": event.name, "attributes": _plain(event.attributes)} for event in span.events],
    }


def _event(record: Any) -> dict[str, Any]:
    return {
        "name": record.event_name,
        "trace_id": f"{record.trace_id:032x}",
        "span_id": f"{record.span_id:016x}",
        "attributes": _plain(record.attributes),
    }


def _point(point: Any) -> dict[str, Any]:
    measured = {"value": point.value} if hasattr(point, "value") else {"count": point.count, "sum": point.sum}
    return {"attributes": _plain(point.attributes), **measured}


def _plain(value: Any) -> Any:
    """Dictionaries sorted by key and lists, whatever the SDK keeps them in."""
    if isinstance(value, Mapping):
        return {name: _plain(value[name]) for name in sorted(value)}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
