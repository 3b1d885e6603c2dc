"""The composition root: from settings to a recorder with its exporters and telemetry. The only place that knows them all.

Everything heavy is imported here, inside functions, when the first call is made.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Sequence
from typing import Any, Final, Protocol

from lmtrace import _recorder
from lmtrace._exporter import Exporter
from lmtrace._failures import failures
from lmtrace._settings import Settings

EXIT_BUDGET_MS: Final = 2_000.0
"""Milliseconds that everything of ours together may delay the end of the process."""

PRESETS: Final = ("jaeger", "honeycomb")

_OTLP_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Flushable(Protocol):
    """What flushing and shutting down needs."""

    def force_flush(self, timeout_millis: float = ...) -> bool: ...

    def shutdown(self, timeout_millis: float = ...) -> object: ...


_telemetry: Flushable | None = None
_telemetry_settings: tuple[Any, ...] | None = None


def build(settings: Settings) -> _recorder.Recorder:
    """A recorder for `settings`."""
    from opentelemetry import _logs, metrics, trace

    from lmtrace import _semconv as names
    from lmtrace._events import Events
    from lmtrace._metrics import Metrics
    from lmtrace._version import __version__

    _set_up_telemetry(settings)
    about: dict[str, Any] = {"schema_url": names.SCHEMA_URL}
    logger = _logs.get_logger(names.SCOPE_NAME, __version__, **about)
    return _recorder.Recorder(
        settings,
        tracer=trace.get_tracer(names.SCOPE_NAME, __version__, **about),
        metrics=Metrics(metrics.get_meter(names.SCOPE_NAME, __version__, **about), settings.metrics),
        events=Events(logger, content=settings.content),
        exporters=_exporters(settings),
    )


def _exporters(settings: Settings) -> Sequence[Exporter]:
    exporters: list[Exporter] = list(settings.exporters)
    if settings.store is not None and settings.capture != "none":
        from lmtrace_exporters import StoreExporter

        try:
            exporters.insert(0, StoreExporter(settings.store, durability=settings.durability))
        except Exception as error:
            failures.note(f"opening the store {settings.store}", error, f" Reason: {error}")
    return exporters


def _set_up_telemetry(settings: Settings) -> None:
    """Providers of our own, once a process, and only if the settings or OpenTelemetry's variables ask for them."""
    global _telemetry, _telemetry_settings
    wanted = (settings.otlp, settings.otlp_protocol, settings.otlp_headers, settings.service_name)
    if wanted == _telemetry_settings or not (settings.otlp or any(map(os.environ.get, _OTLP_VARIABLES))):
        return
    from lmtrace_exporters import setup_otlp

    preset = settings.otlp if settings.otlp in PRESETS else None
    _telemetry_settings = wanted
    _telemetry = setup_otlp(
        None if preset else settings.otlp,
        preset=preset,
        protocol=settings.otlp_protocol,
        headers=dict(settings.otlp_headers) or None,
        service_name=settings.service_name,
        shutdown_on_exit=False,  # `_at_exit` does it, after the store
    )


def close(recorder: _recorder.Recorder, timeout_millis: float = EXIT_BUDGET_MS) -> None:
    """Shut the recorder's own exporters down; those the user passed are the user's to close, and are flushed."""
    theirs = recorder.settings.exporters
    for exporter in recorder.exporters:
        try:
            if any(exporter is other for other in theirs):
                exporter.force_flush(timeout_millis)
            else:
                exporter.shutdown(timeout_millis)
        except Exception as error:
            failures.note(f"closing {type(exporter).__name__}", error)


def flush_all(recorder: _recorder.Recorder, deadline: float) -> bool:
    """Bring rows and telemetry to their destinations by `deadline` (monotonic seconds); tell whether all of it got there."""
    if recorder.metrics is not None:
        recorder.metrics.drain()
    sinks: list[Flushable] = [*recorder.exporters]
    if _telemetry is not None:
        sinks.append(_telemetry)
    done = True
    for sink in sinks:
        try:
            done &= sink.force_flush(max(0.0, deadline - time.monotonic()) * 1000)
        except Exception as error:
            failures.note(f"flushing {type(sink).__name__}", error)
            done = False
    return done


@atexit.register
def _at_exit() -> None:
    """Close what is open, within `EXIT_BUDGET_MS` in total: the store first, because rows are the record of truth."""
    deadline = time.monotonic() + EXIT_BUDGET_MS / 1000
    recorder = _recorder.replace(None)
    if recorder is not None:
        close(recorder, EXIT_BUDGET_MS / 2)
    if _telemetry is not None:
        _telemetry.shutdown(max(0.0, deadline - time.monotonic()) * 1000)
