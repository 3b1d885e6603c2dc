"""The record of one call in flight: its span, what was asked, and at the end its entry, its row and its telemetry.

Every method is guarded once, where it can fail: whatever fails in here, the LM call returns or raises exactly what it would
without lmtrace. Sync calls, async calls and streams share everything, because nothing here waits; a stream makes the span
current around each of its steps only (`CallRecord.step`), never across a ``yield``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind

from lmtrace import _paths, _scope, _serving
from lmtrace import _semconv as names
from lmtrace._attributes import surrounded
from lmtrace._data import LMRequest, LMResponse
from lmtrace._entry import HistoryEntry, RunInfo, ServedBy, dspy_outputs
from lmtrace._failed import call_error, raised_by, type_name
from lmtrace._failures import failures
from lmtrace._keys import framed_key, plain_messages, request_key
from lmtrace._local_span import has_identity, local_span
from lmtrace._quick import new_entry, new_record
from lmtrace._rows import Asked, call_line
from lmtrace._shape import Shape, shape_of
from lmtrace._telemetry import tell

if TYPE_CHECKING:
    from lmtrace._data import LMChunk
    from lmtrace._recorder import Recorder
    from lmtrace._runs import Run

inside: Final[ContextVar[bool]] = ContextVar("lmtrace.inside_recording", default=False)
"""Whether redactors and exporters of the user's are at work. LM calls they make are not recorded, or it would never end."""

_Chunk = tuple[int, Any, "Callable[[Any], LMChunk] | None"]

_NO_DETAILS: Final[Mapping[str, str]] = {}


def active_call() -> CallRecord | None:
    """The call whose provider is running in this context; an instrumentation inside it opens no second one."""
    call = otel_context.get_value(names.INFERENCE_CONTEXT_KEY)
    return call if isinstance(call, CallRecord) and not call._done else None  # a task may outlive the call it began in


def key_of(request: LMRequest) -> str:
    """The key of a request, from the record of the call in flight when that is the call it belongs to."""
    call = active_call()
    known = call.request_key if call is not None and call.request is request else None
    return known or request_key(request)


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
        place = _scope.place()
        self.scope, self._details = place.scope, place.details
        self.path = _paths.current()
        recorder, request = self._recorder, self.request
        shape = self._shape = shape_of(request)
        try:
            self._open_span(shape)
        except Exception as error:
            failures.note("opening a span", error)
        asked = self._asked = Asked(request, shape) if recorder.keep_rows and recorder.keep_content else None
        canonical = plain_messages(request.messages) if asked is None else asked.canonical
        self.request_key = request_key(request) if canonical is None else framed_key(shape.frame, canonical)

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
        attributes = surrounded(
            {**shape.attributes},
            self.request.model_type,
            scope=self.scope,
            run=self._run_info,
            compat=self._recorder.settings.compat,
        )
        for name, value in self._details.items():
            attributes[names.DSPY_PREFIX + name] = value
        span = self._recorder.tracer.start_span(
            shape.span_name, parent, SpanKind.CLIENT, attributes, start_time=self._start_ns
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
            attributes: dict[str, Any] = {names.ATTEMPTS: self._attempts - 1, names.ERROR_TYPE: type_name(error)}
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
        return self._close(partial, error, raised_by(error))

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
        token = inside.set(True)
        try:
            return self._record(response, error, served_by)
        finally:
            inside.reset(token)

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
        return new_entry(
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
            error=None if error is None else call_error(error, recorder.redactor, self._secrets),
            outputs=[] if response is None else dspy_outputs(response.outputs),
            served_by=served_by,
            request_key=self.request_key,
            details=self._details,
            attempts=self._attempts,
            streamed=self.request.stream,
            thread=threading.current_thread().name,
            path=self.path,
        )

    def _write(self, entry: HistoryEntry, chunks: list[_serving.TimedChunk] | None) -> None:
        """The row, and then telemetry."""
        recorder, secrets, found = self._recorder, self._secrets, None
        try:
            if self._run is not None:
                self._run.note(entry)
            if recorder.keep_rows and self._shape is not None:
                line, found = call_line(entry, self._shape, self._asked, recorder.redactor, secrets, chunks=chunks)
                recorder.export(new_record("call", line))
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

    __module__ = "lmtrace"  # as it is read in error_type

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
