"""The composition root: from settings to a recorder with its exporters and telemetry. The only place that knows them all.

Everything heavy is imported here, inside functions, when the first call is made.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from lmtrace import _recorder
from lmtrace._exporter import Exporter
from lmtrace._failures import failures, logger
from lmtrace._settings import Settings

if TYPE_CHECKING:
    from lmtrace._backend import Backend
    from lmtrace_exporters._store import Durability
    from lmtrace_replay import Cache

EXIT_BUDGET_MS: Final = 2_000.0
"""Milliseconds that everything of ours together may delay the end of the process."""

PRESETS: Final = ("jaeger", "honeycomb")

_OTLP_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Flushable(Protocol):
    """What flushing and shutting down needs."""

    def force_flush(self, timeout_millis: float = ...) -> bool: ...

    def shutdown(self, timeout_millis: float = ...) -> object: ...


class _Telemetry(Flushable, Protocol):
    def stats(self) -> dict[str, Any]: ...


_telemetry: _Telemetry | None = None
_telemetry_settings: tuple[Any, ...] | None = None


def build(settings: Settings) -> _recorder.Recorder:
    """A recorder for `settings`."""
    from opentelemetry import _logs, metrics, trace

    from lmtrace import _semconv as names
    from lmtrace._events import Events
    from lmtrace._metrics import Metrics
    from lmtrace._version import __version__

    try:
        set_up_telemetry(settings)
    except Exception as error:  # rows are recorded whatever becomes of telemetry
        failures.note("setting up OTLP", error, f" Reason: {error}")
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
            exporters.insert(0, StoreExporter(settings.store, durability=cast("Durability", settings.durability)))
        except Exception as error:
            failures.note(f"opening the store {settings.store}", error, f" Reason: {error}")
    return exporters


def load() -> None:
    """Import what `cached` needs."""
    import lmtrace._caching  # noqa: F401
    from lmtrace_replay import CacheBackend  # noqa: F401


def cached(inner: Backend, owner: Backend | None) -> Backend:
    """`inner` behind the cache of the process.

    Args:
        inner: Who is asked when the cache has no answer.
        owner: The backend that an LM was given, or None for LiteLLM; answers are kept apart by it.
    """
    from lmtrace import _caching
    from lmtrace_replay import CacheBackend

    current = cast("Callable[[], Cache | None]", _caching.current)
    name = _caching.name_of(owner)
    if owner is None or name is not None:
        return CacheBackend(inner, current, name=name or _caching.LITELLM)
    return CacheBackend(inner, current, name=_caching.label_of(owner), shared=False)


def build_cache(settings: Settings) -> Cache | None:
    """A cache for `settings`: with an index in the store where rows keep content, else in memory only."""
    if settings.cache == "off":
        return None
    from lmtrace_replay import open_cache

    durable = settings.cache == "on" and settings.capture == "full"
    return open_cache(
        settings.store if durable else None,
        redact=settings.redact,
        ttl_seconds=settings.cache_ttl,
        max_bytes=settings.cache_max_bytes,
        memory_bytes=settings.cache_memory_bytes,
        memory_entries=settings.cache_memory_entries,
    )


def set_up_telemetry(settings: Settings) -> None:
    """Providers of our own, once a process, and only if the settings or OpenTelemetry's variables ask for them.

    Raises:
        SettingsError: the endpoint, the protocol or a preset's key makes no sense.
    """
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


def retire(recorder: _recorder.Recorder) -> None:
    """Flush a recorder that others have replaced; its own exporters close when the last call begun with it has ended.

    What the user passed as `exporters` is the user's to close.
    """
    flush_exporters(recorder.exporters, time.monotonic() + EXIT_BUDGET_MS / 1000)
    weakref.finalize(recorder, _shut_down, _own(recorder), EXIT_BUDGET_MS).atexit = False
    _retired.add(recorder)


_retired: weakref.WeakSet[_recorder.Recorder] = weakref.WeakSet()


def _own(recorder: _recorder.Recorder) -> list[Exporter]:
    theirs = recorder.settings.exporters
    return [exporter for exporter in recorder.exporters if not any(exporter is other for other in theirs)]


def _shut_down(exporters: Sequence[Exporter], timeout_millis: float) -> None:
    for exporter in exporters:
        try:
            exporter.shutdown(timeout_millis)
        except Exception as error:
            failures.note(f"closing {type(exporter).__name__}", error)
        _report_loss(exporter)


def _report_loss(exporter: Exporter) -> None:
    """Say how many records an exporter took and could not bring anywhere, when there is no later chance for them."""
    with suppress(Exception):
        figures = exporter.stats()  # type: ignore[attr-defined]  # not part of the protocol
        lost = figures.get("dropped", 0) + figures.get("buffered", 0)
        if lost:
            logger.warning("lmtrace: %d finished calls are lost, %s", lost, figures.get("last_error"))


def flush_exporters(exporters: Sequence[Flushable], deadline: float) -> bool:
    """Flush one after the other, until `deadline` (monotonic seconds); tell whether all was done in time."""
    done = True
    for exporter in exporters:
        try:
            done &= bool(exporter.force_flush(_left(deadline)))
        except Exception as error:
            failures.note(f"flushing {type(exporter).__name__}", error)
            done = False
    return done


def flush_all(recorder: _recorder.Recorder | None, deadline: float) -> bool:
    """Bring rows and telemetry to their destinations by `deadline` (monotonic seconds); tell whether all of it got there."""
    recorders = [*_retired, *([recorder] if recorder is not None else [])]
    done = flush_exporters([exporter for each in recorders for exporter in each.exporters], deadline)
    measured = all(each.metrics.drain(deadline) for each in recorders if each.metrics is not None)
    return flush_exporters([_telemetry] if _telemetry is not None else [], deadline) and done and measured


def figures(recorder: _recorder.Recorder) -> dict[str, Any]:
    """What each exporter that has figures has done, and the OTLP set-up if it is ours."""
    found: dict[str, Any] = {}
    for exporter in (*recorder.exporters, *([_telemetry] if _telemetry is not None else [])):
        read = getattr(exporter, "stats", None)
        if callable(read):
            with suppress(Exception):  # an exporter of the user's
                found[type(exporter).__name__] = read()
    return found


def _left(deadline: float) -> float:
    """Milliseconds until `deadline`."""
    return max(0.0, deadline - time.monotonic()) * 1000


@atexit.register
def _at_exit() -> None:
    """Close what is open, within `EXIT_BUDGET_MS` in total: the store first, because rows are the record of truth."""
    deadline = time.monotonic() + EXIT_BUDGET_MS / 1000
    _drop_streams()
    last = _recorder.replace(None)
    for recorder in [*([last] if last is not None else []), *_retired]:
        _shut_down(_own(recorder), _left(deadline) / 2)
        flush_exporters(recorder.settings.exporters, deadline)
        for exporter in recorder.settings.exporters:
            _report_loss(exporter)
    if _telemetry is not None:
        _telemetry.shutdown(_left(deadline))


def _drop_streams() -> None:
    """Record the streams that nobody will read to their end."""
    traced = sys.modules.get("lmtrace._traced")
    if traced is not None:
        traced.drop_running()
