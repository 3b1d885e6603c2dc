"""A step: a stretch of a program around its LM calls, as a span while it lasts and as a stored span when it is over.

Modules, adapters, tools, evaluations and compilations are steps. Like the record of a call, a step never raises into the
program: what fails in here is counted, and the program goes on. Sync and async code enter and leave it alike.

There are more steps than calls, so a step costs as little as it can. The rows of small ones (`Step.folds`) are written
together with that of the module around them: writing is dear, and code that runs three times in a row is quicker than
code that runs three times between other code.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import orjson
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, INVALID_SPAN_CONTEXT, Span, SpanContext, SpanKind, Status, StatusCode

from lmtrace import _recorder, _scope, _step_content, _wire
from lmtrace import _semconv as names
from lmtrace._conversation import hand_down, inherited, take_back
from lmtrace._entry import RunInfo
from lmtrace._failures import failures
from lmtrace._local_span import has_identity, local_span
from lmtrace._quick import new_record
from lmtrace._rows import add_run, customised, span_columns

if TYPE_CHECKING:
    from lmtrace._recorder import Recorder
    from lmtrace._redactor import Redactor
    from lmtrace._scope import Place

_NOTHING: Final[Mapping[str, Any]] = {}
_SHOWN: Final = (names.STEP_INPUTS, names.STEP_OUTPUTS)
_MOST_HELD: Final = 16


class Step:
    """One step; use it as a context manager, once.

    Args:
        name: What a person calls it; the name of the span.
        kind: What it is, for the stored span: ``module``, ``tool``, ``adapter`` …
        attributes: What is known about it at the start; no content.
        span_kind: The kind of the OpenTelemetry span.
        inputs: Gives what it was asked to do, as anything `lmtrace._wire` can write; called where content is kept.
        content_names: The attributes that show inputs and outputs on spans, where content is wanted there.
        content: Gives further attributes that are content.
        place: Where the code inside runs, if not where the step begins.
        hands_down: Which of its attributes the spans of everything inside take over.
        holds: Whether it is one whose row takes those of small steps along.
        folds: Whether it is a small one.
    """

    __slots__ = (
        "_attributes", "_content_names", "_error", "_folds", "_further", "_handed", "_hands_down", "_held", "_inputs",
        "_inputs_text", "_kind", "_left", "_name", "_outputs", "_outputs_text", "_parent", "_recorder", "_run", "_scope", "_span", "_span_kind",
        "_start_ns", "_start_perf", "_thread", "_token", "duration_ms", "place",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        kind: str,
        attributes: Mapping[str, Any] = _NOTHING,
        *,
        span_kind: SpanKind = SpanKind.INTERNAL,
        inputs: Callable[[], Any] | None = None,
        content_names: tuple[str, str] = _SHOWN,
        content: _step_content.Further | None = None,
        place: Place | None = None,
        hands_down: Mapping[str, str] = _NOTHING,
        holds: bool = False,
        folds: bool = False,
    ) -> None:
        self._name = name
        self._kind = kind
        self._attributes = attributes
        self._span_kind = span_kind
        self._inputs = inputs
        self._content_names = content_names
        self._further = content
        self.place = place
        """Where the code inside runs, if not where the step begins."""
        self._hands_down = hands_down
        self._folds = folds
        self._held: list[Step] | None = [] if holds else None
        self._outputs: Callable[[], Any] | None = None
        self._inputs_text: bytes | None = None
        self._outputs_text: bytes | None = None
        self._error: BaseException | None = None
        self._span: Span = INVALID_SPAN
        self._parent: SpanContext = INVALID_SPAN_CONTEXT
        self._run: RunInfo | None = None
        self._scope: str | None = None
        self._token: Any = None
        self._left: Any = None
        self._handed: Any = None
        self.duration_ms = 0.0
        """How long it took, when it is over."""

    @property
    def operation(self) -> str | None:
        """Its operation, by the name of the conventions, if they have one for it."""
        return self._attributes.get(names.OPERATION_NAME)

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

    def note(self, outputs: Callable[[], Any] | None, attributes: Mapping[str, Any] = _NOTHING) -> None:
        """Keep what came of it: `outputs` gives it, and is called where content is kept."""
        self._outputs = outputs
        if attributes:
            self.add(attributes)

    def add(self, attributes: Mapping[str, Any]) -> None:
        """Say more about it; no content."""
        self._attributes = {**self._attributes, **attributes}
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
        if self._handed is not None:
            take_back(self._handed)
        if self._left is not None:
            _scope.leave(self._left)
        place, self.place = self.place, None
        if place is not None and place.step is self:
            place.step = None
        try:
            self._close(self._recorder, error)
        except Exception as failure:
            failures.note("closing a step", failure)

    # --- opening ---------------------------------------------------------------------------------------------------

    def _open(self, recorder: Recorder) -> None:
        place = self.place
        if place is None:
            self._scope = _scope.place().scope
        else:
            self._scope = place.scope
            if self._held is not None:
                self._thread = threading.get_ident()
                place.step = self
            self._left = _scope.enter(place)
        run = _scope.current_run()
        self._run = run.info if run is not None else recorder.process_run
        around = inherited()
        if around:
            self._attributes = {**around, **self._attributes}
        if self._hands_down:
            self._handed = hand_down(self._hands_down)
        here = otel_context.get_current()
        parent = trace.get_current_span(here).get_span_context()
        if run is not None and not parent.is_valid:
            here, parent = run.context(here)
        self._parent = parent
        span = recorder.tracer.start_span(
            self._name, here, self._span_kind, self._start_attributes(), start_time=self._start_ns
        )
        self._span = span = span if has_identity(span, parent) else local_span(parent)
        self._token = otel_context.attach(trace.set_span_in_context(span, here))
        if self._inputs is not None and _keeps_content(recorder):
            self._inputs_text = _wire.dumps(self._inputs())

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
        self._error = error
        if self._outputs is not None and _keeps_content(recorder):
            self._outputs_text = _wire.dumps(self._outputs())
        try:
            if recorder.keep_rows:
                self._write(recorder)
        finally:
            self._end_span(recorder, duration_ms, error)
        if recorder.metrics is not None:
            recorder.metrics.record_step(self._attributes, duration_ms, error)

    def _write(self, recorder: Recorder) -> None:
        if self._folds:
            around = _scope.place().step
            if around is not None and around._hold(self):
                return
        held, self._held = self._held, None
        _export(recorder, [*held, self] if held else (self,))

    def _hold(self, inner: Step) -> bool:
        """Take the row of a small step, to be written with this one's; refuse if that might be too late or in a race."""
        held = self._held
        if held is None or inner._recorder is not self._recorder or self._thread != threading.get_ident():
            return False
        held.append(inner)
        if len(held) >= _MOST_HELD:
            self._held = []
            _export(self._recorder, held)
        return True

    def _line(self, recorder: Recorder) -> bytes:
        error, self._error = self._error, None  # which holds the frames of the program
        row = span_columns(self._span.get_span_context(), self._parent, self._start_ns, self.duration_ms, error)
        row["name"] = self._name
        row["span_kind"] = self._kind
        if self._scope is not None:
            row["scope"] = self._scope
        if self._attributes:
            row["attributes"] = self._attributes
        if self._run is not None:
            add_run(row, self._run)
        if recorder.keep_content:
            if self._inputs_text is not None:
                row["inputs"] = orjson.Fragment(self._inputs_text)
            if self._outputs_text is not None:
                row["outputs"] = orjson.Fragment(self._outputs_text)
        return orjson.dumps(row, _wire.tagged, _wire.OPTIONS)

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
        """Inputs, outputs and further content as texts, redacted and cut."""
        shown = zip(self._content_names, (self._inputs_text, self._outputs_text), strict=True)
        found = {
            attribute: _step_content.shown(attribute, recorder.redactor.data(text, _NOTHING), self._attributes)
            for attribute, text in shown
            if text is not None
        }
        return found if self._further is None else found | _step_content.further(self._further, recorder.redactor)


def _keeps_content(recorder: Recorder) -> bool:
    return (recorder.keep_rows and recorder.keep_content) or recorder.settings.content in names.SPAN_CONTENT


def _export(recorder: Recorder, steps: Iterable[Step]) -> None:
    """Write the rows of finished steps."""
    lines, redactor = [step._line(recorder) for step in steps], recorder.redactor
    if len(lines) == 1 or redactor.custom or _holds_secrets(lines, redactor):
        lines = [redactor.line(line, _NOTHING) for line in lines]
    if redactor.custom:
        lines = [customised(line, redactor) for line in lines]
    recorder.export(*[new_record("span", line) for line in lines])


def _holds_secrets(lines: list[bytes], redactor: Redactor) -> bool:
    """Whether any of them does, found out in one search."""
    together = b'{"rows":[' + b",".join(lines) + b"]}"
    return redactor.line(together, _NOTHING) is not together
