"""The life of one LM call, shared by sync calls, async calls and streams: `start`, the provider inside, `finish` or `fail`.

    with recorder.start(request, secrets) as call:    # a span opens and is current while the provider runs
        response = provider(...)                      # an error is recorded and passes unchanged
    entry = call.finish(response)                     # the entry freezes, the row is written, the span closes

The law: whatever fails in here, the LM call returns or raises exactly what it would without lmtrace. Each step that can
fail is guarded once, and a failure is counted (`lmtrace._failures`). Sync and async share everything, because nothing here
waits; a stream makes the span current around each of its steps only (`CallRecord.step`), never across a ``yield``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind

from lmtrace import _paths, _scope, _serving, _settings
from lmtrace import _semconv as names
from lmtrace._attributes import surrounded
from lmtrace._data import LMRequest, LMResponse
from lmtrace._entry import CallError, HistoryEntry, RunInfo, ServedBy, dspy_outputs
from lmtrace._errors import LMError
from lmtrace._exporter import Exporter, Record
from lmtrace._failures import failures
from lmtrace._ids import Clock, Uuid7
from lmtrace._keys import framed_key, request_key
from lmtrace._local_span import has_identity, local_span
from lmtrace._redactor import Redactor
from lmtrace._rows import Asked, call_line
from lmtrace._shape import Shape, shape_of
from lmtrace._telemetry import tell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmtrace._data import LMChunk
    from lmtrace._events import Events
    from lmtrace._metrics import Metrics
    from lmtrace._runs import Run

_lock = threading.RLock()
_current: Recorder | None = None

_inside: ContextVar[bool] = ContextVar("lmtrace.inside_recording", default=False)
"""Whether redactors and exporters of the user's are at work. LM calls they make are not recorded, or it would never end."""


def current() -> Recorder:
    """The recorder of this process, made from the settings on first use."""
    return _current if _current is not None else _first()


def current_or_none() -> Recorder | None:
    """The recorder of this process, if there is one yet."""
    return _current


def _first() -> Recorder:
    global _current
    with _lock:
        if _current is None:
            try:
                from lmtrace._compose import build

                _current = build(_settings.current())
            except Exception as error:
                failures.note("setting up", error, f" Nothing is recorded. Reason: {error}")
                _current = _silent()
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
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def active_call() -> CallRecord | None:
    """The call whose provider is running in this context; an instrumentation inside it opens no second one."""
    call = otel_context.get_value(names.INFERENCE_CONTEXT_KEY)
    return call if isinstance(call, CallRecord) and not call._done else None  # a task may outlive the call it began in


def key_of(request: LMRequest) -> str:
    """The key of a request, from the record of the call in flight when that is the call it belongs to."""
    call = active_call()
    known = call.request_key if call is not None and call.request is request else None
    return known or request_key(request)


_Chunk = tuple[int, Any, "Callable[[Any], LMChunk] | None"]


_NO_DETAILS: Final[Mapping[str, str]] = {}


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
        call = CallRecord(_silent() if self.may_nest and _inside.get() else recorder, request, secrets)
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

    def export(self, record: Record) -> None:
        """Give a record to every exporter; one that fails does not keep the others from it."""
        for exporter in self.exporters:
            try:
                exporter.export((record,))
            except Exception as failure:
                failures.note(f"exporting to {type(exporter).__name__}", failure, " `lmtrace doctor` tells more.")


class CallRecord:
    """One call in flight. Every method is safe whatever happens; none raises into the call."""

    __slots__ = (
        "_asked", "_attempts", "_chunks", "_details", "_done", "_first_chunk_ns", "_parent_span_id", "_recorder", "_run",
        "_run_info", "_secrets", "_server", "_shape", "_span", "_start_ns", "_start_perf", "_token", "entry", "path",
        "request", "request_key", "scope",
    )  # fmt: skip

    def __init__(self, recorder: Recorder, request: LMRequest, secrets: Mapping[str, Any]) -> None:
        self.request: Final = request
        self.entry: HistoryEntry | None = None
        """The finished call, after `finish` or `fail`."""
        self._recorder = recorder
        self._secrets = secrets
        self._start_ns = recorder.clock.time_ns()
        self._start_perf = recorder.clock.perf_ns()
        self._span: Span = trace.INVALID_SPAN
        self._asked: Asked | None = None
        self._attempts = 1
        self._server = _serving.current()
        keeps_chunks = (recorder.keep_rows and recorder.keep_content) or self._server is not None
        self._chunks: list[_Chunk] | None = [] if request.stream and keeps_chunks else None
        self._done = False
        self._first_chunk_ns: int | None = None
        self._parent_span_id: int | None = None
        self.path: str | None = None
        self.request_key: str | None = None
        self._run: Run | None = None
        self._run_info: RunInfo | None = None
        self.scope: str | None = None
        self._details: Mapping[str, str] = _NO_DETAILS
        self._shape: Shape | None = None
        self._token: Any = None

    # --- opening ---------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        run = self._run = _scope.current_run()
        self._run_info = run.info if run is not None else self._recorder.process_run
        self.scope = _scope.scope()
        self._details = _scope.details()
        self.path = _paths.current()
        recorder, request = self._recorder, self.request
        shape = self._shape = shape_of(request)
        try:
            self._open_span(shape)
        except Exception as error:
            failures.note("opening a span", error)
        asked = self._asked = Asked(request, shape) if recorder.keep_rows and recorder.keep_content else None
        if asked is not None and asked.canonical is not None:
            self.request_key = framed_key(shape.frame, asked.canonical)
        else:
            self.request_key = request_key(request)

    def _open_span(self, shape: Shape) -> None:
        parent = otel_context.get_current()
        around = trace.get_current_span(parent).get_span_context()
        if self._run is not None and not around.is_valid:
            parent, around = self._run.context(parent)
        self._parent_span_id = around.span_id if around.is_valid else None
        inference = otel_context.get_value(names.INFERENCE_CONTEXT_KEY, parent)
        if inference is not None and not isinstance(inference, CallRecord):
            self._span = trace.NonRecordingSpan(around)  # another library's span for this very call: use its identity
            self._parent_span_id = None
            return
        span = self._recorder.tracer.start_span(
            shape.span_name,
            parent,
            SpanKind.CLIENT,
            surrounded(
                {**shape.attributes},
                self.request.model_type,
                scope=self.scope,
                run=self._run_info,
                compat=self._recorder.settings.compat,
            )
            | {names.DSPY_PREFIX + name: value for name, value in self._details.items()},
            start_time=self._start_ns,
        )
        self._span = span if has_identity(span, around) else local_span(around)

    # --- while the provider runs -----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._token = self._attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_: TracebackType | None
    ) -> None:
        otel_context.detach(self._token)
        if error is not None:
            self.fail(error)

    def step(self) -> _Step:
        """A context manager for one step of a stream: the span is current inside, and errors are left to the caller."""
        return _Step(self)

    def _attach(self) -> Any:
        """Make the span current; returns what detaching needs."""
        here = otel_context.set_value(names.INFERENCE_CONTEXT_KEY, self, trace.set_span_in_context(self._span))
        return otel_context.attach(here)

    def note(self, attributes: Mapping[str, Any]) -> None:
        """Say more about the call on its span; no content."""
        try:
            self._span.set_attributes(attributes)
        except Exception as failure:
            failures.note("noting more of a call", failure)

    def attempt(self, error: BaseException, delay: float | None = None) -> None:
        """Note that an attempt failed and another follows after `delay` seconds."""
        self._attempts += 1
        try:
            attributes: dict[str, Any] = {names.ATTEMPTS: self._attempts - 1, names.ERROR_TYPE: _type_name(error)}
            if delay is not None:
                attributes[names.RETRY_DELAY] = delay
            self._span.add_event(names.ATTEMPT_EVENT, attributes)
        except Exception as failure:
            failures.note("noting an attempt", failure)

    def answered_by(self, trace_id: str, span_id: str) -> None:
        """Link the recorded call that answers this one, given the ids of its span."""
        try:
            self._span.add_link(trace.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True))
        except Exception as failure:
            failures.note("linking a recorded call", failure)

    def chunk(self, chunk: Any, read: Callable[[Any], LMChunk] | None = None) -> None:
        """Note that a chunk of a stream has arrived; `read` makes an `LMChunk` of it when the stream is over."""
        now = self._recorder.clock.perf_ns()
        if self._chunks is not None:
            self._chunks.append((now, chunk, read))
        if self._first_chunk_ns is None:
            self._first_chunk_ns = now
            try:
                self._span.add_event(names.FIRST_CHUNK_EVENT)
            except Exception as failure:
                failures.note("noting the first chunk", failure)

    # --- closing ---------------------------------------------------------------------------------------------------

    def finish(self, response: LMResponse | None, *, served_by: ServedBy | None = None) -> HistoryEntry:
        """Record the answer, None for a stream that brought nothing. Where it came from is read off it unless said."""
        return self._close(response, None, served_by)

    def fail(self, error: BaseException, partial: LMResponse | None = None) -> HistoryEntry:
        """Record an error or a cancellation, with what had arrived until then."""
        return self._close(partial, error, _raised_by(error))

    def abandon(self, partial: LMResponse | None = None) -> None:
        """Record that a stream was dropped half-way; nothing if it had already ended."""
        if not self._done:
            self._close(partial, StreamAbandoned(), None)

    def _close(
        self, response: LMResponse | None, error: BaseException | None, served_by: ServedBy | None
    ) -> HistoryEntry:
        if self.entry is not None:
            return self.entry
        self._done = True
        if not self._recorder.may_nest:
            return self._record(response, error, served_by)
        token = _inside.set(True)
        try:
            return self._record(response, error, served_by)
        finally:
            _inside.reset(token)

    def _record(
        self, response: LMResponse | None, error: BaseException | None, served_by: ServedBy | None
    ) -> HistoryEntry:
        try:
            entry = self.entry = self._freeze(response, error, served_by or _served_by(response))
        except Exception as failure:  # no LMResponse, but whatever a backend of the user's returned
            entry = self.entry = self._bare_entry()
            failures.note("reading an answer", failure)
        chunks = self._timed_chunks()
        self._write(entry, chunks)
        if self._server is not None:
            self._tell_server(self._server, entry, chunks)
        return entry

    def _timed_chunks(self) -> list[_serving.TimedChunk] | None:
        if not self._chunks:
            return None
        start = self._start_perf
        try:
            return [((ns - start) / 1e6, raw if read is None else read(raw)) for ns, raw, read in self._chunks]
        except Exception as failure:
            failures.note("reading the chunks of a stream", failure)
            return None

    def _tell_server(
        self, server: _serving.Server, entry: HistoryEntry, chunks: list[_serving.TimedChunk] | None
    ) -> None:
        try:
            server.finished(entry, chunks)
        except Exception as failure:
            failures.note("keeping a recording", failure)

    def _bare_entry(self) -> HistoryEntry:
        return HistoryEntry(
            uuid=self._recorder.new_id(),
            timestamp_ns=self._start_ns,
            duration_ms=(self._recorder.clock.perf_ns() - self._start_perf) / 1e6,
            request=self.request,
            outputs=[],
            run=self._run_info,
            scope=self.scope,
            request_key=self.request_key,
        )

    def _freeze(self, response: LMResponse | None, error: BaseException | None, served_by: ServedBy) -> HistoryEntry:
        recorder = self._recorder
        ended = recorder.clock.perf_ns()
        context = self._span.get_span_context()
        traced = context.is_valid
        first = self._first_chunk_ns
        return HistoryEntry(
            uuid=recorder.new_id(),
            timestamp_ns=self._start_ns,
            duration_ms=(ended - self._start_perf) / 1e6,
            time_to_first_chunk_ms=None if first is None else (first - self._start_perf) / 1e6,
            trace_id=f"{context.trace_id:032x}" if traced else None,
            span_id=f"{context.span_id:016x}" if traced else None,
            parent_span_id=f"{self._parent_span_id:016x}" if traced and self._parent_span_id else None,
            run=self._run_info,
            scope=self.scope,
            request=self.request,
            response=response,
            error=None if error is None else self._error(error),
            outputs=[] if response is None else dspy_outputs(response.outputs),
            served_by=served_by,
            request_key=self.request_key,
            details=self._details,
            attempts=self._attempts,
            streamed=self.request.stream,
            thread=threading.current_thread().name,
            path=self.path,
        )

    def _error(self, error: BaseException) -> CallError:
        recorded: CallError | None = vars(error).get(_serving.RECORDED) if isinstance(error, LMError) else None
        if recorded is not None:
            return recorded
        code, delay = _public_facts(error)
        return CallError(
            type=_type_name(error),
            message=self._recorder.redactor.text(_message(error), self._secrets),
            status=_status(error),
            code=code,
            retry_after=delay,
        )

    def _write(self, entry: HistoryEntry, chunks: list[_serving.TimedChunk] | None) -> None:
        """The row, and then telemetry."""
        recorder, secrets, found = self._recorder, self._secrets, None
        try:
            if self._run is not None:
                self._run.note(entry)
            if recorder.keep_rows and self._shape is not None:
                line, found = call_line(entry, self._shape, self._asked, recorder.redactor, secrets, chunks=chunks)
                recorder.export(Record("call", line))
        except Exception as failure:
            failures.note("writing a record", failure)
        finally:
            tell(recorder, entry, self._span, asked=self._asked, secrets=secrets, found=found)


class _Step:
    """Makes a call's span current for one step of its stream."""

    __slots__ = ("_call", "_token")

    def __init__(self, call: CallRecord) -> None:
        self._call = call

    def __enter__(self) -> None:
        self._token = self._call._attach()

    def __exit__(self, *error: object) -> None:
        otel_context.detach(self._token)


class StreamAbandoned(Exception):  # noqa: N818 - a state, shown in error_type
    """Stands in the record of a stream that its reader dropped before the end; never raised."""

    def __str__(self) -> str:
        return "the stream was dropped before its end"


def _served_by(response: LMResponse | None) -> ServedBy:
    if response is None:
        return "provider"
    metadata = response.metadata
    if metadata is not None and "served_by" in metadata:
        served_by: ServedBy = metadata["served_by"]
        return served_by
    return "cache" if response.cache_hit else "provider"


def _raised_by(error: BaseException) -> ServedBy | None:
    served_by: ServedBy | None = getattr(error, "__dict__", {}).get(_serving.SERVED_BY)
    return served_by


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<the exception cannot be shown>"


def _public_facts(error: BaseException) -> tuple[str | None, float | None]:
    """The code of the error that `lmtrace.LM` raises, and how long the provider asked to wait."""
    from lmtrace._error_facts import retry_after
    from lmtrace._provider_errors import public_class

    if not isinstance(error, Exception):
        return None, None
    try:
        if isinstance(error, LMError):
            return error.code, error.retry_after
        return public_class(error).default_code, retry_after(error)
    except Exception:  # an exception that cannot be read
        return None, None


def _status(error: BaseException) -> int | None:
    try:
        status = getattr(error, "status_code", None) or getattr(error, "status", None)
    except Exception:
        return None
    return status if type(status) is int else None
