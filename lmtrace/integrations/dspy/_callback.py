"""`lmtrace.Callback`: the record of a DSPy program by DSPy's own callbacks, where nothing may be patched.

The spans and rows are those of `instrument()`, as far as callbacks tell: they know no example of an evaluation, no retriever,
and no chunks. The answer of an LM call is found in the LM's history by the very list that the call returned, so other
threads do not matter. What runs in DSPy's thread pools finds its parent in DSPy's settings, which are carried there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry import context, trace

from lmtrace import _scope
from lmtrace._failures import failures
from lmtrace._lm import LM
from lmtrace.integrations.dspy import _calls, _evaluations, _install, _steps_of
from lmtrace.integrations.litellm._translate import is_answer

_CARRIED: Final = "lmtrace_carried"
"""The setting of DSPy in which threads find where they belong."""

_RECENT: Final = 256
"""How many of the LM's newest history entries may be others'."""

_adapter: ContextVar[str | None] = ContextVar("lmtrace.dspy.adapter", default=None)
"""The adapter that has just written the messages of the next call."""


class Callback:
    """Records a DSPy program: ``dspy.configure(callbacks=[lmtrace.Callback()])``. After `instrument()` it does nothing."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[ExitStack, Callable[[Any], object]]] = {}

    def _begin(
        self, call_id: str, begin: Callable[..., Any], keep: Callable[..., object], owner: Any, inputs: Any
    ) -> None:
        if _install.is_on():
            return
        stack = ExitStack()
        try:
            _adopt(stack)
            args, kwargs = _arguments(inputs)
            step = stack.enter_context(begin(owner, args, kwargs))
            _hand_on(stack)
        except Exception as error:
            stack.close()
            failures.note("reading a step of DSPy", error)
            return
        self._open[call_id] = stack, lambda outputs: keep(step, outputs)

    def _end(self, call_id: str, outputs: Any, exception: BaseException | None) -> None:
        stack, keep = self._open.pop(call_id, (None, None))
        if stack is None or keep is None:
            return
        try:
            if exception is None:
                keep(outputs)
        except Exception as error:
            failures.note("reading a step of DSPy", error)
        stack.__exit__(type(exception) if exception else None, exception, None)

    # --- what DSPy calls -------------------------------------------------------------------------------------------

    def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        """A module begins."""
        self._begin(call_id, _steps_of.begin_module, _steps_of.note_module, instance, inputs)

    def on_tool_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        """A tool begins."""
        self._begin(call_id, _steps_of.begin_tool, _steps_of.note, instance, inputs)

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        """An evaluation begins."""
        self._begin(call_id, _evaluations.begin, _evaluations.Evaluating.keep, instance, inputs)

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        """An adapter writes messages."""
        _adapter.set(type(instance).__name__)
        self._begin(call_id, _steps_of.begin_format, _nothing, instance, inputs)

    def on_adapter_parse_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        """An adapter reads an answer."""
        self._begin(call_id, _steps_of.begin_parse, _steps_of.note, instance, inputs)

    def on_lm_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        """A call of an LM begins."""
        if _install.is_on() or isinstance(instance, LM):  # which records itself
            return
        stack = ExitStack()
        try:
            _adopt(stack)
            stack.enter_context(_scope.detailed(**{"adapter": name} if (name := _adapter.get()) else {}))
            call = _calls.begin(instance, *_arguments(inputs))
        except Exception as error:
            stack.close()
            failures.note("reading a call of DSPy", error)
            return
        if call is None:
            stack.close()
            return
        stack.enter_context(call)
        self._open[call_id] = stack, lambda outputs: _answered(call, instance, outputs)

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """It ends: first its span is no longer that of the code around, then its answer is recorded."""
        stack, answered = self._open.pop(call_id, (None, None))
        if stack is None or answered is None:
            return
        stack.__exit__(type(exception) if exception else None, exception, None)
        if exception is None:
            answered(outputs)

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Whatever has begun ends."""
        self._end(call_id, outputs, exception)

    on_tool_end = on_evaluate_end = on_adapter_format_end = on_adapter_parse_end = on_module_end

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_"):  # steps that only some versions of DSPy tell of
            return _nothing
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Not recorded."""


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call, of which DSPy tells those by position and by name as ``args`` and ``kwargs``."""
    rest = dict(inputs)
    args, kwargs = rest.pop("args", ()), rest.pop("kwargs", None) or {}
    return tuple(args), {**rest, **kwargs}


def _adopt(stack: ExitStack) -> None:
    """In a thread of DSPy's, which knows nothing of who started it: go on where that was."""
    from dspy.dsp.utils.settings import settings

    carried = getattr(settings, _CARRIED, None)
    if carried is None or trace.get_current_span().get_span_context().is_valid:
        return
    here, place = carried
    stack.callback(context.detach, context.attach(here))
    stack.enter_context(place.entered())


def _hand_on(stack: ExitStack) -> None:
    from dspy.dsp.utils.settings import settings

    stack.enter_context(settings.context(**{_CARRIED: (context.get_current(), _scope.Carried())}))


def _answered(call: _calls.Call, lm: Any, outputs: Any) -> None:
    call.seen = _seen(lm, outputs)
    call.returned(lm, outputs)


def _seen(lm: Any, outputs: Any) -> Any:
    """What came from the engine, out of the history entry of the call that returned `outputs`."""
    for entry in reversed(lm.history[-_RECENT:]):
        response = entry["response"]
        if entry["outputs"] is outputs or response is outputs:
            break
    else:
        return None
    if is_answer(response) or not hasattr(lm, "_engine_spec"):
        return response
    from dspy.clients.call_result import CallResult

    responses = response if isinstance(response, tuple) else (response,)
    return CallResult(
        responses=responses if all(hasattr(one, "message") for one in responses) else (),
        outputs=entry["outputs"],
        usage=entry["usage"],
        cost=entry["cost"],
        response_model=entry["response_model"],
        cache_hit=not entry["usage"],
    )
