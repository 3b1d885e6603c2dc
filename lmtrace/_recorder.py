"""What calls are recorded with: one recorder for the process, made from the settings when the first call is made.

    with recorder.start(request, secrets) as call:    # a span opens and is current while the provider runs
        response = provider(...)                      # an error is recorded and passes unchanged
    entry = call.finish(response)                     # the entry freezes, the row is written, the span closes

The law: whatever fails in here, the LM call returns or raises exactly what it would without lmtrace. Each step that can
fail is guarded once, and a failure is counted (`lmtrace._failures`). `lmtrace._record` holds the call in flight.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from lmtrace import _scope, _serving, _settings
from lmtrace._data import LMRequest
from lmtrace._exporter import Exporter, Record
from lmtrace._failures import failures
from lmtrace._ids import Clock, Uuid7
from lmtrace._record import CallRecord, inside
from lmtrace._redactor import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmtrace._events import Events
    from lmtrace._metrics import Metrics

_lock = threading.RLock()
_current: Recorder | None = None
_building = False


def current() -> Recorder:
    """The recorder of this process, made from the settings on first use."""
    return _current if _current is not None else _first()


def current_or_none() -> Recorder | None:
    """The recorder of this process, if there is one yet."""
    return _current


def _first() -> Recorder:
    global _building, _current
    with _lock:
        if _building:  # a finaliser or a signal handler, amid the making of the recorder by this thread
            failures.note("recording a call made amid the first one", RuntimeError())
            return _silent()
        if _current is None:
            _building = True
            try:
                from lmtrace._compose import build

                _current = build(_settings.current())
            except Exception as error:
                failures.note("setting up", error, f" Nothing is recorded. Reason: {error}")
                _current = _silent()
            finally:
                _building = False
        return _current


def _silent() -> Recorder:
    """A recorder that records nothing."""
    return Recorder(_settings.Settings(capture="none"), tracer=trace.NoOpTracer())


def replace(recorder: Recorder | None) -> Recorder | None:
    """Make `recorder` that of the process and return the one before."""
    global _current
    with _lock:
        before, _current = _current, recorder
    return before


def forget(settings: _settings.Settings | None) -> Recorder | None:
    """Change the settings, so that the next call makes a new recorder; returns the one before.

    Both under one lock: another thread that is just making a recorder must not bring the old settings back.
    """
    with _lock:
        _settings.use(settings)
        return replace(None)


def _renew_lock() -> None:
    """In a forked child: a thread that is not here may have held it."""
    global _building, _lock
    _lock, _building = threading.RLock(), False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class Recorder:
    """Everything a call is recorded with. Immutable; new settings make a new recorder."""

    __slots__ = (
        "__weakref__",
        "_rowless",
        "clock",
        "events",
        "exporters",
        "keep_content",
        "keep_rows",
        "may_nest",
        "metrics",
        "new_id",
        "process_run",
        "redactor",
        "settings",
        "tracer",
    )

    def __init__(
        self,
        settings: _settings.Settings,
        *,
        tracer: trace.Tracer,
        exporters: Sequence[Exporter] = (),
        metrics: Metrics | None = None,
        events: Events | None = None,
        clock: Clock | None = None,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        self.settings = settings
        self.tracer = tracer
        self.exporters = tuple(exporters)
        self.metrics = metrics
        self.events = events
        self.clock = clock or Clock()
        self.new_id = new_id or Uuid7(self.clock.time_ns)
        self.redactor = Redactor(settings.redact)
        self.keep_rows = bool(self.exporters) and settings.capture != "none"
        self.keep_content = settings.capture == "full"
        self.process_run = _scope.process_run(self.redactor)
        self.may_nest = bool(settings.redact or settings.exporters)
        self._rowless: Recorder | None = None

    def start(self, request: LMRequest, secrets: Mapping[str, Any]) -> CallRecord:
        """Begin to record a call: the span opens, and what was asked is serialised. Never raises."""
        server = _serving.current()
        recorder = self if server is None or server.keeps_rows else self.rowless()
        call = CallRecord(_silent() if self.may_nest and inside.get() else recorder, request, secrets)
        try:
            call._open()
        except Exception as error:
            failures.note("starting a record", error)
        return call

    def rowless(self) -> Recorder:
        """This recorder, but for the store: spans and metrics only."""
        if self._rowless is None:
            self._rowless = Recorder(
                self.settings, tracer=self.tracer, metrics=self.metrics, events=self.events, clock=self.clock,
                new_id=self.new_id,
            )  # fmt: skip
        return self._rowless

    def export(self, *records: Record) -> None:
        """Give records to every exporter; one that fails does not keep the others from them."""
        for exporter in self.exporters:
            try:
                exporter.export(records)
            except Exception as failure:
                failures.note(f"exporting to {type(exporter).__name__}", failure, " `lmtrace doctor` tells more.")
