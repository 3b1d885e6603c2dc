"""The steps of a DSPy program: what each kind of method is called, and what of it is worth keeping.

Every wrapper does the same: it opens a step, makes the call, notes what came of it. What could go wrong in finding names
ends in `failures`, and the call is then made without a step.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry.trace import SpanKind

from lmtrace import _scope
from lmtrace import _semconv as names
from lmtrace._failures import failures
from lmtrace._steps import Step
from lmtrace.integrations._patching import Function, Switch
from lmtrace.integrations.dspy import _evaluations
from lmtrace.integrations.dspy._evaluations import Compiling
from lmtrace.integrations.dspy._identity import identity_of, predictors_of
from lmtrace.integrations.dspy._plain import arguments, is_agent, label_of, plain, signature_of

Begin = Callable[[ExitStack, Any, tuple[Any, ...], dict[str, Any]], AbstractContextManager[Any]]
"""Makes the step of one call, or what goes around it."""

Keep = Callable[[Any, Any], None]
"""Notes what a call returned, given its step."""

_running: ContextVar[tuple[tuple[int, str], ...]] = ContextVar("lmtrace.dspy.running", default=())
"""Methods of which a step is open, by object and name: an override that calls its base class is one step and not two."""


def _note(step: Step, result: Any) -> None:
    step.note(plain(result))


def _wrapping(begin: Begin, keep: Keep = _note) -> Callable[[Function, Switch], Function]:
    def wrap(original: Function, switch: Switch) -> Function:
        make = _async_wrapper if inspect.iscoroutinefunction(original) else _sync_wrapper
        return make(original, switch, begin, keep)

    return wrap


def _sync_wrapper(original: Function, switch: Switch, begin: Begin, keep: Keep) -> Function:
    name = original.__name__

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not switch.is_on or (id(self), name) in _running.get():
            return original(self, *args, **kwargs)
        with ExitStack() as stack:
            step = _begun(stack, name, lambda: begin(stack, self, args, kwargs), self)
            result = original(self, *args, **kwargs)
            _kept(step, keep, result)
            return result

    return wrapper


def _async_wrapper(original: Function, switch: Switch, begin: Begin, keep: Keep) -> Function:
    name = original.__name__

    @functools.wraps(original)
    async def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not switch.is_on or (id(self), name) in _running.get():
            return await original(self, *args, **kwargs)
        with ExitStack() as stack:
            step = _begun(stack, name, lambda: begin(stack, self, args, kwargs), self)
            result = await original(self, *args, **kwargs)
            _kept(step, keep, result)
            return result

    return wrapper


def _begun(stack: ExitStack, name: str, begin: Callable[[], AbstractContextManager[Any]], owner: Any) -> Any:
    try:
        step = begin()
        if name not in _RECURSIVE:
            stack.callback(_running.reset, _running.set((*_running.get(), (id(owner), name))))
        return stack.enter_context(step)
    except Exception as error:
        failures.note("reading a step of DSPy", error)
        return None


_RECURSIVE: Final = frozenset({"__call__", "acall"})
"""Methods that may call themselves: a module that calls itself with a smaller question is a step in a step."""


def _kept(step: Any, keep: Keep, result: Any) -> None:
    if step is None:
        return
    try:
        keep(step, result)
    except Exception as error:
        failures.note("reading a step of DSPy", error)


# --- modules -----------------------------------------------------------------------------------------------------------


def _begin_module(stack: ExitStack, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    around = _scope.caller_modules()
    label = label_of(module, around[-1] if around else None)
    stack.enter_context(_scope.caller_module(module, label))
    name, attributes = _module_name(module, label, is_outermost=not around)
    signature = signature_of(module)
    if signature is not None:
        attributes[names.DSPY_SIGNATURE] = signature
        stack.enter_context(_scope.detailed(signature=signature))
    return Step(name, "module", attributes, inputs=lambda: arguments(args, kwargs))


def _module_name(module: Any, label: str, *, is_outermost: bool) -> tuple[str, dict[str, Any]]:
    if is_agent(module):
        agent = {names.OPERATION_NAME: "invoke_agent", names.AGENT_NAME: label}
        return f"invoke_agent {label}", agent
    if is_outermost:
        workflow = {names.OPERATION_NAME: "invoke_workflow", names.WORKFLOW_NAME: label}
        return f"invoke_workflow {label}", workflow
    return str(_scope.scope()), {}


module: Final = _wrapping(_begin_module)


# --- adapters ----------------------------------------------------------------------------------------------------------


def adapter(original: Function, switch: Switch) -> Function:
    """A wrapper of an adapter's own call: no step, the module around it is one; it says which adapter was at work."""

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _scope.detailed(adapter=type(self).__name__):
            return original(self, *args, **kwargs)

    @functools.wraps(original)
    async def async_wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _scope.detailed(adapter=type(self).__name__):
            return await original(self, *args, **kwargs)

    return async_wrapper if inspect.iscoroutinefunction(original) else wrapper


def _begin_format(stack: ExitStack, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    return Step(f"{type(owner).__name__}.format", "adapter", {names.DSPY_ADAPTER: type(owner).__name__})


def _begin_parse(stack: ExitStack, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    given = inspect.signature(type(owner).parse).bind(owner, *args, **kwargs).arguments
    attributes = {names.DSPY_ADAPTER: type(owner).__name__}
    return Step(f"{type(owner).__name__}.parse", "adapter", attributes, inputs=lambda: given.get("completion"))


adapter_format: Final = _wrapping(_begin_format, lambda step, result: None)
"""The messages an adapter made are those of the LM call that follows; they are not kept twice."""

adapter_parse: Final = _wrapping(_begin_parse)


# --- tools, retrievers, embedders, interpreters --------------------------------------------------------------------------


def _begin_tool(stack: ExitStack, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    name = str(owner.name)
    attributes = {names.OPERATION_NAME: "execute_tool", names.TOOL_NAME: name, names.TOOL_TYPE: "function"}
    return Step(
        f"execute_tool {name}",
        "tool",
        attributes,
        inputs=lambda: arguments(args, kwargs),
        content_names=(names.TOOL_ARGUMENTS, names.TOOL_RESULT),
    )


tool: Final = _wrapping(_begin_tool)


def _begin_retriever(stack: ExitStack, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    name = type(owner).__name__
    attributes: dict[str, Any] = {names.OPERATION_NAME: "retrieval"}
    count = kwargs.get("k", getattr(owner, "k", None))
    if type(count) is int:
        attributes[names.RETRIEVAL_TOP_K] = count
    return Step(
        f"retrieval {name}",
        "retriever",
        attributes,
        span_kind=SpanKind.CLIENT,
        inputs=lambda: plain(args[0]) if len(args) == 1 else arguments(args, kwargs),
        content_names=(names.RETRIEVAL_QUERY, names.RETRIEVAL_DOCUMENTS),
    )


retriever: Final = _wrapping(_begin_retriever)


def _begin_embedder(stack: ExitStack, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    model = (
        owner.model if isinstance(owner.model, str) else getattr(owner.model, "__name__", type(owner.model).__name__)
    )
    return Step(f"Embedder {model}", "embedder", {names.REQUEST_MODEL: model}, inputs=lambda: arguments(args, kwargs))


embedder: Final = _wrapping(_begin_embedder, lambda step, result: None)
"""Vectors are in the row of the embeddings call, where a provider made them."""


def _begin_interpreter(stack: ExitStack, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    return Step(f"{type(owner).__name__}.execute", "interpreter", inputs=lambda: arguments(args, kwargs))


interpreter: Final = _wrapping(_begin_interpreter)


# --- evaluations and optimisers --------------------------------------------------------------------------------------------


evaluation: Final = _wrapping(
    lambda stack, owner, args, kwargs: _evaluations.begin(owner, args, kwargs), _evaluations.Evaluating.keep
)


def _begin_compilation(stack: ExitStack, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Compiling:
    student = args[0] if args else kwargs.get("student")
    optimiser = type(owner).__name__
    step = Step(
        f"compile {optimiser}",
        "compile",
        inputs=lambda: {"student": type(student).__name__, **_plain_options(kwargs)},
    )
    return Compiling(optimiser, step)


def _plain_options(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers and switches of a compilation; data sets are counted."""
    scalars = {name: value for name, value in kwargs.items() if isinstance(value, (int, float, str, bool))}
    return scalars | {name: len(value) for name, value in kwargs.items() if isinstance(value, list)}


def _note_candidates(compiling: Compiling, result: Any) -> None:
    """Who the program is that came of it, and the scores DSPy's optimisers leave on it, best first."""
    found = getattr(result, "candidate_programs", None)
    scores = (
        [one["score"] for one in found if isinstance(one, dict) and "score" in one] if type(found) is list else None
    )
    outputs = None if scores is None else {"scores": scores}
    compiling.step.note(outputs, identity_of(predictors_of(result)))


compilation: Final = _wrapping(_begin_compilation, _note_candidates)
