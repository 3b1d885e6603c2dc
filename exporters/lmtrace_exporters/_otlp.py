"""OTLP set up in one call: providers for a process that has none, towards Jaeger, Honeycomb or any collector.

The application comes first: a signal for which it has set a provider keeps that provider, and nothing is added to it.
OpenTelemetry's variables are honoured (endpoints, headers, timeouts, certificates, resource, sampler, batching;
``OTEL_TRACES_EXPORTER=none`` and the like leave a signal out); what is given here goes before them. Headers and
credentials are shown nowhere.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lmtrace_exporters._otlp_signals import Signal, build_signal
from lmtrace_exporters._otlp_target import Target, target_of, wanted_signals

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

EXIT_MILLIS: Final = 2_000.0
"""What closing may take when the process ends, whatever the collector does."""

_ABORT_SHARE: Final = 0.75
_logger = logging.getLogger(__name__)


class Otlp:
    """The OTLP telemetry of this process."""

    def __init__(self, endpoint: str, protocol: str, signals: list[Signal], kept: tuple[str, ...]) -> None:
        self.endpoint = endpoint
        """Where it is sent, without credentials."""
        self.protocol = protocol
        self.signals = tuple(signal.name for signal in signals)
        """What was set up here."""
        self.kept = kept
        """What the application had set up before and keeps for itself."""
        self._signals = signals
        self._closed = False

    def __repr__(self) -> str:
        kept = f"; the application's own: {', '.join(self.kept)}" if self.kept else ""
        return f"<Otlp {self.endpoint} {self.protocol}: {', '.join(self.signals) or 'nothing'}{kept}>"

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Send everything recorded so far.

        Returns:
            Whether all of it arrived in time. What was lost since the last flush counts too: refused by the collector
            or dropped because too much was waiting.
        """
        if self._closed:
            return not self._signals
        outcomes = [signal.flush(timeout_millis) for signal in self._signals]
        return _all_true(outcomes, time.monotonic() + timeout_millis / 1000)

    def shutdown(self, timeout_millis: float = EXIT_MILLIS) -> bool:
        """Send what waits, and stop. Returns in time even if the collector does not answer; later calls do nothing.

        Returns:
            Whether it stopped in time.
        """
        if self._closed:
            return True
        self._closed = True
        atexit.unregister(self.shutdown)
        deadline = time.monotonic() + timeout_millis / 1000
        outcomes = [signal.close() for signal in self._signals]
        _, late = wait_for(outcomes, _ABORT_SHARE * timeout_millis / 1000)
        for signal, outcome in zip(self._signals, outcomes, strict=True):
            if outcome in late:
                signal.abort()
        _, late = wait_for(outcomes, max(0.0, deadline - time.monotonic()))
        return not late

    def stats(self) -> dict[str, dict[str, int]]:
        """For each signal: items `sent`, `failed` (refused or given up), and for traces `ended`.

        After a flush, spans that ended and are neither sent nor failed were dropped because too many waited.
        """
        return {signal.name: _figures(signal) for signal in self._signals}


def _figures(signal: Signal) -> dict[str, int]:
    tally = signal.tally
    figures = {"sent": tally.sent, "failed": tally.failed}
    return {**figures, "ended": tally.ended} if signal.name == "traces" else figures


def _all_true(outcomes: list[Future[object]], deadline: float) -> bool:
    done, late = wait_for(outcomes, max(0.0, deadline - time.monotonic()))
    return not late and all(outcome.exception() is None and outcome.result() is True for outcome in done)


_ours: Otlp | None = None
_lock = threading.Lock()


def setup_otlp(
    endpoint: str | None = None,
    *,
    protocol: str | None = None,
    headers: Mapping[str, str] | None = None,
    service_name: str | None = None,
    preset: str | None = None,
    shutdown_on_exit: bool = True,
) -> Otlp:
    """Send the telemetry of this process by OTLP, as far as the application has not arranged for it.

    Providers can be set once in a process. A later call therefore returns what the first one made, with a warning if it
    asks for another endpoint.

    Args:
        endpoint: Base address such as ``http://localhost:4318``; user and password in it become a header. Without one,
            the preset's, ``OTEL_EXPORTER_OTLP_ENDPOINT``, or the collector on this machine.
        protocol: ``http/protobuf`` or ``grpc``; by default ``OTEL_EXPORTER_OTLP_PROTOCOL``, else HTTP.
        headers: Headers of the requests, added to those of ``OTEL_EXPORTER_OTLP_HEADERS``.
        service_name: `service.name`; by default ``OTEL_SERVICE_NAME``, else the name of the program.
        preset: ``jaeger`` (traces only, as Jaeger takes nothing else) or ``honeycomb`` (key from ``HONEYCOMB_API_KEY``).
        shutdown_on_exit: Whether to send what waits when the process ends, within `EXIT_MILLIS`.

    Raises:
        SettingsError: an argument makes no sense, or Honeycomb's key is missing.
    """
    global _ours
    target = target_of(endpoint, protocol, headers, preset)
    with _lock:
        if _ours is not None:
            _warn_if_other(_ours, target)
            return _ours
        handle = _build(target, service_name)
        if handle.signals:
            _ours = handle
            if shutdown_on_exit:
                atexit.register(handle.shutdown)
        return handle


def _build(target: Target, service_name: str | None) -> Otlp:
    signals: list[Signal] = []
    kept: list[str] = []
    resource = _resource(service_name)
    service = str(resource.attributes["service.name"])
    for name in wanted_signals(target):
        current, use = _GLOBALS[name]()
        if not _is_proxy(current):
            kept.append(name)
            continue
        signal = build_signal(name, target.protocol, target.options(name, service), resource)
        use(signal.provider)
        signals.append(signal)
    return Otlp(target.shown, target.protocol, signals, tuple(kept))


def _is_proxy(provider: object) -> bool:
    """Whether it is the stand-in that the API returns as long as nobody has set a provider."""
    return "Proxy" in type(provider).__name__


def _traces() -> tuple[object, Callable[[Any], None]]:
    from opentelemetry import trace

    return trace.get_tracer_provider(), trace.set_tracer_provider


def _metrics() -> tuple[object, Callable[[Any], None]]:
    from opentelemetry import metrics

    return metrics.get_meter_provider(), metrics.set_meter_provider


def _logs() -> tuple[object, Callable[[Any], None]]:
    from opentelemetry import _logs as logs

    return logs.get_logger_provider(), logs.set_logger_provider


_GLOBALS: Final = {"traces": _traces, "metrics": _metrics, "logs": _logs}


def _resource(service_name: str | None) -> Resource:
    """The resource of OpenTelemetry's variables, with a service name that says more than ``unknown_service``."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource

    if service_name is not None:
        return Resource.create({SERVICE_NAME: service_name})
    resource = Resource.create()
    named = not str(resource.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service")
    return resource if named else Resource.create({SERVICE_NAME: _program()})


def _program() -> str:
    name = Path(sys.argv[0]).stem
    return name if name not in {"", "-c", "-m", "__main__"} else "python"


def _warn_if_other(ours: Otlp, target: Target) -> None:
    if (ours.endpoint, ours.protocol) != (target.shown, target.protocol):
        _logger.warning(
            "OTLP already goes to %s by %s, and a process can set this up once; restart it to use %s",
            ours.endpoint,
            ours.protocol,
            target.shown,
        )
