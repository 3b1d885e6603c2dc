"""A run: a named stretch of work whose calls are counted, traced and stored together."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanContext, Status, StatusCode

from lmtrace import _recorder, _scope, _wire
from lmtrace import _semconv as names
from lmtrace._candidates import Candidate, Candidates, Evaluation, Spending
from lmtrace._entry import HistoryEntry, RunInfo
from lmtrace._exporter import Record
from lmtrace._failures import failures
from lmtrace._local_span import has_identity, local_span
from lmtrace._rows import add_run, span_columns


class Run:
    """A named stretch of work; use it as a context manager, once.

    Its calls share a trace (the run is a span), carry its id, name and tags, and are summed up here as they finish.
    """

    def __init__(self, name: str, tags: Mapping[str, Any] | None = None) -> None:
        recorder = _recorder.current()
        self.info = RunInfo(
            run_id=recorder.new_id(),
            name=_clean(recorder, name),
            tags={_clean(recorder, key): _clean(recorder, value) for key, value in (tags or {}).items()},
        )
        """Id, name and tags; they stand on spans that show no content, so secrets are removed here."""
        self._spent = Spending()
        self._candidates = Candidates()
        self._lock = threading.RLock()  # a finaliser that records a dropped stream may interrupt `note`
        self._recorder = recorder
        self._span: trace.Span = trace.INVALID_SPAN
        self._parent: SpanContext = trace.INVALID_SPAN_CONTEXT
        self._tokens: list[Any] = []
        self._started_ns = self._started_perf = 0

    @property
    def id(self) -> str:
        """The run's id, `run_id` in the store."""
        return self.info.run_id

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def tags(self) -> Mapping[str, str]:
        return self.info.tags

    @property
    def trace_id(self) -> str | None:
        """Hexadecimal id of the run's trace, or None when tracing is off."""
        context = self._span.get_span_context()
        return f"{context.trace_id:032x}" if context.is_valid else None

    def __enter__(self) -> Self:
        clock = self._recorder.clock
        self._started_ns, self._started_perf = clock.time_ns(), clock.perf_ns()
        self._tokens.append(_scope.enter_run(self))
        try:
            self._open_span()
        except Exception as error:
            failures.note("opening a run", error)
        return self

    def _open_span(self) -> None:
        self._parent = trace.get_current_span().get_span_context()
        attributes = {names.RUN_ID: self.id, names.RUN_NAME: self.name}
        attributes.update({names.TAG_PREFIX + key: value for key, value in self.tags.items()})
        span = self._recorder.tracer.start_span(self.name, attributes=attributes, start_time=self._started_ns)
        self._span = span if has_identity(span, self._parent) else local_span(self._parent)
        self._tokens.append(otel_context.attach(trace.set_span_in_context(self._span)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if len(self._tokens) > 1:
            with suppress(Exception):
                otel_context.detach(self._tokens[1])
        _scope.exit_run(self, self._tokens[0])
        try:
            self._close(error)
        except Exception as failure:
            failures.note("closing a run", failure)
        finally:
            del self._recorder  # or a store that `configure` has replaced would stay open as long as this object

    def _close(self, error: BaseException | None) -> None:
        duration_ms = (self._recorder.clock.perf_ns() - self._started_perf) / 1e6
        if error is not None:
            self._span.set_status(Status(StatusCode.ERROR, type(error).__qualname__))
        self._span.end(end_time=self._started_ns + int(duration_ms * 1e6))
        recorder = self._recorder
        if not recorder.keep_rows:
            return
        record = Record("span", recorder.redactor.line(self._line(duration_ms, error), {}))
        recorder.export(record)

    def _line(self, duration_ms: float, error: BaseException | None) -> bytes:
        row = span_columns(self._span.get_span_context(), self._parent, self._started_ns, duration_ms, error)
        row |= {"name": self.name, "span_kind": "run"}
        add_run(row, self.info)
        return _wire.dumps(row)

    def context(self, base: otel_context.Context) -> tuple[otel_context.Context, SpanContext]:
        """`base` with the run's span as parent, for calls made in threads that have no context of their own."""
        return trace.set_span_in_context(self._span, base), self._span.get_span_context()

    def note(self, entry: HistoryEntry) -> None:
        """Count a finished call."""
        with self._lock:
            self._spent.add(entry)
        self._candidates.note(entry)

    @property
    def calls(self) -> int:
        """Finished LM calls so far, failed ones included."""
        return self._spent.calls

    @property
    def errors(self) -> int:
        return self._spent.errors

    @property
    def input_tokens(self) -> int:
        return self._spent.input_tokens

    @property
    def output_tokens(self) -> int:
        return self._spent.output_tokens

    @property
    def cost(self) -> float | None:
        """US dollars billed so far, or None while no price is known for any call."""
        return self._spent.cost

    def evaluating(self, evaluation: Evaluation) -> None:
        """Count what is spent on an evaluation that has begun."""
        self._candidates.begin(evaluation)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What `dspy.Evaluate` has evaluated in this run, also inside of optimisers, the best score first.

        Those of this process; the view `candidates` has those of all.
        """
        return self._candidates.finished()

    def show(self) -> None:
        """Print the run's trace as a tree: calls, times, tokens and cost."""
        from lmtrace._cli.show import show_run

        show_run(self.id)

    def diff(self, other: str) -> None:
        """Print what differs from another run, as `lmtrace diff` does.

        Args:
            other: Its name, its id or a part of one, or ``last~1`` for the run before.
        """
        from lmtrace._cli.diff import show_diff

        show_diff(self.id, other)

    def rollouts(self) -> None:
        """Print the requests of the run that were asked under several rollout ids, as `lmtrace rollouts` does."""
        from lmtrace._cli.rollouts import show_rollouts

        show_rollouts(self.id)

    def __repr__(self) -> str:
        cost = "unknown" if self.cost is None else f"${self.cost:.2g}"
        return f"<Run {self.name!r} {self.id} calls={self.calls} errors={self.errors} cost={cost}>"


def _clean(recorder: _recorder.Recorder, text: Any) -> str:
    return recorder.redactor.text(str(text), {})


def run(name: str, tags: Mapping[str, Any] | None = None) -> Run:
    """A named run, to be entered with ``with``: its calls share a trace and are counted on the returned object.

    Args:
        name: What to call it; runs of the same name are told apart by their id.
        tags: Small texts to find it by, stored with every call.
    """
    return Run(name, tags)
