"""One OTLP signal each: traces, metrics or logs, from provider to exporter, with an honest account of what arrived.

The SDK's own reports cannot be used: `force_flush` of its batch processors ignores its deadline and says True when the
collector hangs or refuses. So exporters are counted here, and whatever may hang runs in a thread that exists before it
is needed, because an interpreter that is shutting down starts no new ones.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from importlib import import_module
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from lmtrace_exporters._forks import after_fork

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

BATCH_SIZE: Final = 128
"""Spans in one request. Encoding holds the GIL: 512 of them add 5 ms to the p99 of a traced call."""

QUEUE_SIZE: Final = 8_192
"""Finished spans that may wait; more are dropped, the oldest first."""

REQUEST_BYTES: Final = 3 * 1024 * 1024
"""Text in one request of spans; gRPC receivers refuse messages over 4 MiB, whole."""

_SPAN_OVERHEAD: Final = 1_500
_STRIDE: Final = 13
_logger = logging.getLogger(__name__)

_EXPORTERS: Final = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}


class Tally:
    """What became of the items of one signal."""

    def __init__(self) -> None:
        self.ended = 0
        """Items that should have been sent, where that is known."""
        self.sent = 0
        self.failed = 0
        self._lock = threading.RLock()  # a finaliser may end a span while its own thread is in here
        self._reported = 0
        after_fork(self, Tally.__init__)

    def note_ended(self) -> None:
        with self._lock:
            self.ended += 1

    def note_sent(self, count: int, *, arrived: bool) -> None:
        with self._lock:
            if arrived:
                self.sent += count
            else:
                self.failed += count

    def lost(self, ended: int) -> int:
        """Of the first `ended` items, how many did not arrive; right once everything before has been flushed."""
        with self._lock:
            return max(self.failed, ended - self.sent)

    def newly_lost(self, ended: int) -> int:
        """What `lost` says, less what it said the last time."""
        lost = self.lost(ended)
        new, self._reported = lost - self._reported, lost
        return new


class Worker:
    """A thread that does, one after the other, what may hang."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._start()
        after_fork(self, Worker._start)

    def _start(self) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], object], Future[object]]] = SimpleQueue()
        threading.Thread(target=self._work, args=(self._jobs,), name=self._name, daemon=True).start()

    def submit(self, action: Callable[[], object]) -> Future[object]:
        """Have `action` done; the future tells when, and how it ended."""
        future: Future[object] = Future()
        self._jobs.put((action, future))
        return future

    @staticmethod
    def _work(jobs: SimpleQueue[tuple[Callable[[], object], Future[object]]]) -> None:
        while True:
            action, future = jobs.get()
            try:
                future.set_result(action())
            except Exception as error:
                future.set_exception(error)


class Signal:
    """A provider that sends to an exporter."""

    def __init__(self, name: str, provider: Any, exporter: Any, tally: Tally) -> None:
        self.name = name
        self.provider = provider
        self.tally = tally
        self._exporter = exporter
        self._worker = Worker(f"lmtrace-otlp-{name}")

    def flush(self, timeout_millis: float) -> Future[object]:
        """Send everything that waits; the future says whether all of it, and all since the last flush, arrived."""
        return self._worker.submit(lambda: self._flush(timeout_millis))

    def _flush(self, timeout_millis: float) -> bool:
        ended = self.tally.ended
        self.provider.force_flush(int(timeout_millis))
        return self.tally.newly_lost(ended) == 0

    def close(self) -> Future[object]:
        """Send everything that waits, and stop."""
        return self._worker.submit(self.provider.shutdown)

    def abort(self) -> None:
        """Stop the exporter, which ends its waiting between attempts."""
        self._exporter.shutdown()


def build_exporter(signal: str, protocol: str, tally: Tally, options: dict[str, Any]) -> Any:
    """The OTLP exporter of a signal, counted in `tally`."""
    module, name = _EXPORTERS[signal]
    package = "grpc" if protocol == "grpc" else "http"
    base = getattr(import_module(f"opentelemetry.exporter.otlp.proto.{package}.{module}"), name)
    return _counted(base, signal, tally)(**options)


def _counted(base: Any, signal: str, tally: Tally) -> Any:
    """A subclass of an exporter that notes what arrived, and that may be shut down twice."""

    class Counted(base):  # type: ignore[misc]  # the base is chosen at run time
        _closed = False

        def export(self, items: Any, *args: Any, **kwargs: Any) -> Any:
            result = None
            for part in _parts(items) if signal == "traces" else (items,):
                result = self._export_part(part, *args, **kwargs)
            return result

        def _export_part(self, items: Any, *args: Any, **kwargs: Any) -> Any:
            arrived = False
            try:
                result = super().export(items, *args, **kwargs)
                arrived = result.name == "SUCCESS"
                return result
            finally:
                tally.note_sent(1 if signal == "metrics" else len(items), arrived=arrived)

        def shutdown(self, *args: Any, **kwargs: Any) -> None:
            if not self._closed:
                self._closed = True
                super().shutdown(*args, **kwargs)

    Counted.__name__ = Counted.__qualname__ = base.__name__
    return Counted


def _parts(spans: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The spans in groups whose texts stay below `REQUEST_BYTES`.

    Weighing a span costs a third of sending it, so a few are weighed first. They are a prime number apart, because the
    spans of one program come in a rhythm.
    """
    if max(map(_weight, spans[::_STRIDE]), default=0) * len(spans) <= REQUEST_BYTES:
        yield spans
        return
    part: list[Any] = []
    size = 0
    for span in spans:
        weight = _weight(span)
        if part and size + weight > REQUEST_BYTES:
            yield part
            part, size = [], 0
        part.append(span)
        size += weight
    yield part


def _weight(span: Any) -> int:
    texts = (value for value in (span.attributes or {}).values() if isinstance(value, str))
    return _SPAN_OVERHEAD + sum(len(text) if text.isascii() else 3 * len(text) for text in texts)


def build_signal(signal: str, protocol: str, options: dict[str, Any], resource: Resource) -> Signal:
    """A signal with a provider of its own, which does not yet serve the process."""
    tally = Tally()
    exporter = build_exporter(signal, protocol, tally, options)
    return Signal(signal, _PROVIDERS[signal](exporter, resource, tally), exporter, tally)


def _tracer_provider(exporter: Any, resource: Resource, tally: Tally) -> Any:
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    class Processor(BatchSpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            if span.context.trace_flags.sampled:
                tally.note_ended()
            super().on_end(span)

    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(Processor(exporter, **_batching("OTEL_BSP")))
    return provider


def _meter_provider(exporter: Any, resource: Resource, tally: Tally) -> Any:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    return MeterProvider([PeriodicExportingMetricReader(exporter)], resource=resource, shutdown_on_exit=False)


def _logger_provider(exporter: Any, resource: Resource, tally: Tally) -> Any:
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter, **_batching("OTEL_BLRP")))
    return provider


def _batching(prefix: str) -> dict[str, Any]:
    """Our sizes where OpenTelemetry's variables do not say others."""
    sizes = {"max_queue_size": QUEUE_SIZE, "max_export_batch_size": BATCH_SIZE}
    return {name: size for name, size in sizes.items() if f"{prefix}_{name.upper()}" not in os.environ}


_PROVIDERS: Final = {"traces": _tracer_provider, "metrics": _meter_provider, "logs": _logger_provider}
