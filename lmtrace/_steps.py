"""A step: a stretch of a program around its LM calls, as a span while it lasts and as a stored span when it is over.

Modules, adapters, tools, evaluations and compilations are steps. Like the record of a call, a step never raises into the
program: what fails in here is counted, and the program goes on. Sync and async code enter and leave it alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import orjson
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, INVALID_SPAN_CONTEXT, Span, SpanContext, SpanKind, Status, StatusCode

from lmtrace import _recorder, _scope, _wire
from lmtrace import _semconv as names
from lmtrace._content import encode
from lmtrace._entry import RunInfo
from lmtrace._failures import failures
from lmtrace._local_span import has_identity, local_span
from lmtrace._quick import new_record
from lmtrace._rows import add_run, customised, span_columns

if TYPE_CHECKING:
    from lmtrace._recorder import Recorder

_NOTHING: Final[Mapping[str, Any]] = {}


class Step:
    """One step; use it as a context manager, once.

    Args:
        name: What a person calls it; the name of the span.
        kind: What it is, for the stored span: ``module``, ``tool``, ``adapter`` …
        attributes: What is known about it at the start; no content.
        span_kind: The kind of the OpenTelemetry span.
        inputs: Gives what it was asked to do, as anything `lmtrace._wire` can write; called where content is kept.
        content_names: The attributes that show inputs and outputs on spans, where content is wanted there.
    """

    __slots__ = (
        "_attributes", "_content_names", "_inputs", "_kind", "_name", "_outputs", "_parent", "_recorder", "_run",
        "_scope", "_span", "_span_kind", "_start_ns", "_start_perf", "_texts", "_token", "duration_ms",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        kind: str,
        attributes: Mapping[str, Any] = _NOTHING,
        *,
        span_kind: SpanKind = SpanKind.INTERNAL,
        inputs: Callable[[], Any] | None = None,
        content_names: tuple[str, str] = (names.STEP_INPUTS, names.STEP_OUTPUTS),
    ) -> None:
        self._name = name
        self._kind = kind
        self._attributes = dict(attributes)
        self._span_kind = span_kind
        self._inputs = inputs
        self._content_names = content_names
        self._outputs: Any = None
        self._texts: dict[str, bytes] = {}
        self._span: Span = INVALID_SPAN
        self._parent: SpanContext = INVALID_SPAN_CONTEXT
        self._run: RunInfo | None = None
        self._scope: str | None = None
        self._token: Any = None
        self.duration_ms = 0.0
        """How long it took, when it is over."""

    @property
    def id(self) -> str:
        """`span_id` in the store; zeros where the step could not be opened."""
        return f"{self._span.get_span_context().span_id:016x}"

    def __enter__(self) -> Self:
        recorder = self._recorder = _recorder.current()
        self._start_ns, self._start_perf = recorder.clock.time_ns(), recorder.clock.perf_ns()
        try:
            self._open(recorder)
        except Exception as error:
            failures.note("opening a step", error)
        return self

    def note(self, outputs: Any, attributes: Mapping[str, Any] = _NOTHING) -> None:
        """Keep what came of it."""
        self._outputs = outputs
        self.add(attributes)

    def add(self, attributes: Mapping[str, Any]) -> None:
        """Say more about it; no content."""
        self._attributes.update(attributes)
        try:
            self._span.set_attributes(attributes)
        except Exception as error:
            failures.note("noting a step", error)

    def tell(self, name: str, attributes: Mapping[str, Any], content: Mapping[str, str] = _NOTHING) -> None:
        """Emit an event of this step; where nobody receives events, it is put on the span.

        Args:
            name: The name of the event.
            attributes: What it says; no content.
            content: Texts that it has as well where content is wanted.
        """
        try:
            recorder = self._recorder
            clean = {key: recorder.redactor.text(text, _NOTHING) for key, text in content.items()}
            events = recorder.events
            if events is None or not events.tell(name, attributes, clean, recorder.clock.time_ns(), self._span):
                shown = clean if recorder.settings.content in names.SPAN_CONTENT else {}
                self._span.add_event(name, {**attributes, **shown})
        except Exception as error:
            failures.note("telling of a step", error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._token is not None:
            otel_context.detach(self._token)
        try:
            self._close(self._recorder, error)
        except Exception as failure:
            failures.note("closing a step", failure)

    # --- opening ---------------------------------------------------------------------------------------------------

    def _open(self, recorder: Recorder) -> None:
        run = _scope.current_run()
        self._run = run.info if run is not None else recorder.process_run
        self._scope = _scope.scope()
        here = otel_context.get_current()
        parent = trace.get_current_span(here).get_span_context()
        if run is not None and not parent.is_valid:
            here, parent = run.context(here)
        self._parent = parent
        span = recorder.tracer.start_span(
            self._name, here, self._span_kind, self._start_attributes(), start_time=self._start_ns
        )
        self._span = span if has_identity(span, parent) else local_span(parent)
        self._token = otel_context.attach(trace.set_span_in_context(self._span, here))
        if self._inputs is not None and _keeps_content(recorder):
            self._texts["inputs"] = _wire.dumps(self._inputs())

    def _start_attributes(self) -> dict[str, Any]:
        attributes = {**self._attributes}
        if self._scope is not None:
            attributes[names.SCOPE] = self._scope
        if self._run is not None:
            attributes[names.RUN_ID] = self._run.run_id
            attributes[names.RUN_NAME] = self._run.name
        return attributes

    # --- closing ---------------------------------------------------------------------------------------------------

    def _close(self, recorder: Recorder, error: BaseException | None) -> None:
        duration_ms = self.duration_ms = (recorder.clock.perf_ns() - self._start_perf) / 1e6
        if self._outputs is not None and _keeps_content(recorder):
            self._texts["outputs"] = _wire.dumps(self._outputs)
        try:
            if recorder.keep_rows:
                recorder.export(new_record("span", self._line(recorder, duration_ms, error)))
        finally:
            self._end_span(recorder, duration_ms, error)

    def _line(self, recorder: Recorder, duration_ms: float, error: BaseException | None) -> bytes:
        row = span_columns(self._span.get_span_context(), self._parent, self._start_ns, duration_ms, error)
        row["name"] = self._name
        row["span_kind"] = self._kind
        if self._scope is not None:
            row["scope"] = self._scope
        if self._attributes:
            row["attributes"] = self._attributes
        if self._run is not None:
            add_run(row, self._run)
        if recorder.keep_content:
            row |= {name: orjson.Fragment(text) for name, text in self._texts.items()}
        line = recorder.redactor.line(orjson.dumps(row, _wire.tagged, _wire.OPTIONS), _NOTHING)
        return customised(line, recorder.redactor) if recorder.redactor.custom else line

    def _end_span(self, recorder: Recorder, duration_ms: float, error: BaseException | None) -> None:
        span = self._span
        try:
            if span.is_recording():
                if recorder.settings.content in names.SPAN_CONTENT:
                    span.set_attributes(self._content(recorder))
                if error is not None:
                    span.set_attribute(names.ERROR_TYPE, type(error).__qualname__)
                    span.set_status(Status(StatusCode.ERROR, type(error).__qualname__))
        finally:
            span.end(end_time=self._start_ns + int(duration_ms * 1e6))

    def _content(self, recorder: Recorder) -> dict[str, str]:
        """Inputs and outputs as JSON texts, redacted and cut."""
        shown = zip(("inputs", "outputs"), self._content_names, strict=True)
        return {
            attribute: encode([recorder.redactor.data(self._texts[name], _NOTHING)])[0][1:-1]
            for name, attribute in shown
            if name in self._texts
        }


def _keeps_content(recorder: Recorder) -> bool:
    return (recorder.keep_rows and recorder.keep_content) or recorder.settings.content in names.SPAN_CONTENT
