"""The steps of a DSPy program: what each kind of method is called, and what of it is worth keeping.

Every wrapper does the same: it opens a step, makes the call, notes what came of it. What could go wrong in finding names
ends in `failures`, and the call is then made without a step.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

from opentelemetry.trace import SpanKind

from lmtrace import _scope
from lmtrace import _semconv as names
from lmtrace._failures import failures
from lmtrace._steps import Step
from lmtrace.integrations._patching import Function, Switch
from lmtrace.integrations.dspy import _agents, _evaluations
from lmtrace.integrations.dspy._evaluations import Compiling
from lmtrace.integrations.dspy._identity import identity_of, predictors_of
from lmtrace.integrations.dspy._plain import address_of, arguments, is_agent, label_of, plain, signature_of

Begin = Callable[[Any, tuple[Any, ...], dict[str, Any]], AbstractContextManager[Any] | None]
"""Makes the step of one call, or what goes around it; None for a call that is no step of its own."""

Keep = Callable[[Any, Any], None]
"""Notes what a call returned, given its step."""


def note(step: Step, result: Any) -> None:
    """Notes what a call returned."""
    step.note(lambda: plain(result))


def _wrapping(begin: Begin, keep: Keep = note) -> Callable[[Function, Switch], Function]:
    def wrap(original: Function, switch: Switch) -> Function:
        make = _async_wrapper if inspect.iscoroutinefunction(original) else _sync_wrapper
        return make(original, switch, begin, keep)

    return wrap


def _sync_wrapper(original: Function, switch: Switch, begin: Begin, keep: Keep) -> Function:
    name = original.__name__

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        step = _begun(begin, name, self, args, kwargs) if switch.is_on else None
        if step is None:
            return original(self, *args, **kwargs)
        try:
            result = original(self, *args, **kwargs)
            _kept(step, keep, result)
        except BaseException as error:
            step.__exit__(type(error), error, error.__traceback__)
            raise
        step.__exit__(None, None, None)
        return result

    return wrapper


def _async_wrapper(original: Function, switch: Switch, begin: Begin, keep: Keep) -> Function:
    name = original.__name__

    @functools.wraps(original)
    async def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        step = _begun(begin, name, self, args, kwargs) if switch.is_on else None
        if step is None:
            return await original(self, *args, **kwargs)
        try:
            result = await original(self, *args, **kwargs)
            _kept(step, keep, result)
        except BaseException as error:
            step.__exit__(type(error), error, error.__traceback__)
            raise
        step.__exit__(None, None, None)
        return result

    return wrapper


def _begun(begin: Begin, name: str, owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The step of a call, open; None for an override that calls its base class, which is one step and not two."""
    try:
        step: Any
        if name in _RECURSIVE:
            step = begin(owner, args, kwargs)
            return None if step is None else step.__enter__()
        place, work = _scope.place(), (id(owner), name)
        if work in place.running:
            return None
        step = begin(owner, args, kwargs)
        (step if isinstance(step, Step) else step.step).place = place.within(work)
        return step.__enter__()
    except Exception as error:
        failures.note("reading a step of DSPy", error)
        return None


_RECURSIVE: Final = frozenset({"__call__", "acall"})
"""Methods that may call themselves: a module that calls itself with a smaller question is a step in a step."""


def _kept(step: Any, keep: Keep, result: Any) -> None:
    try:
        keep(step, result)
    except Exception as error:
        failures.note("reading a step of DSPy", error)


# --- modules -----------------------------------------------------------------------------------------------------------


def begin_module(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    """The step of a module."""
    around = _scope.place()
    modules = around.modules
    label = label_of(module, modules[-1] if modules else None)
    place = around.inside(module, label)
    name, attributes = _module_name(module, label, place.scope if modules else None)
    signature = signature_of(module)
    if signature is not None:
        attributes[names.DSPY_SIGNATURE] = signature
        place = place.detailed({"signature": signature})
    agent = _agents.options(module, label) if names.AGENT_NAME in attributes else {}
    return Step(name, "module", attributes, inputs=lambda: arguments(args, kwargs), place=place, holds=True, **agent)


def note_module(step: Step, result: Any) -> None:
    """Notes what a module returned."""
    attributes = _agents.finish_reasons(result) if step.operation == "invoke_agent" else {}
    step.note(lambda: plain(result), attributes)


def _module_name(module: Any, label: str, scope: str | None) -> tuple[str, dict[str, Any]]:
    """The name of a module's span and what is known about it, given its place if it has modules around it."""
    kind: Any = type(module)
    if is_agent(kind):
        agent = {names.OPERATION_NAME: "invoke_agent", names.AGENT_NAME: label}
        return f"invoke_agent {label}", agent
    if scope is None:
        workflow = {names.OPERATION_NAME: "invoke_workflow", names.WORKFLOW_NAME: label}
        return f"invoke_workflow {label}", workflow
    return scope, {}


module: Final = _wrapping(begin_module, note_module)


# --- adapters ----------------------------------------------------------------------------------------------------------


def adapter(original: Function, switch: Switch) -> Function:
    """A wrapper of an adapter's own call: no step, the module around it is one; it says which adapter was at work."""

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        place, name = _scope.place(), type(self).__name__
        if place.details.get("adapter") == name:
            return original(self, *args, **kwargs)
        token = _scope.enter(place.detailed({"adapter": name}))
        try:
            return original(self, *args, **kwargs)
        finally:
            _scope.leave(token)

    @functools.wraps(original)
    async def async_wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        place, name = _scope.place(), type(self).__name__
        if place.details.get("adapter") == name:
            return await original(self, *args, **kwargs)
        token = _scope.enter(place.detailed({"adapter": name}))
        try:
            return await original(self, *args, **kwargs)
        finally:
            _scope.leave(token)

    return async_wrapper if inspect.iscoroutinefunction(original) else wrapper


def begin_format(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    """The step in which an adapter writes messages."""
    name = type(owner).__name__
    return Step(f"{name}.format", "adapter", {names.DSPY_ADAPTER: name}, folds=True)


def begin_parse(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    """The step in which an adapter reads an answer."""
    name = type(owner).__name__
    completion = kwargs.get("completion", args[1] if len(args) > 1 else None)  # parse(signature, completion)
    return Step(f"{name}.parse", "adapter", {names.DSPY_ADAPTER: name}, inputs=lambda: completion, folds=True)


adapter_format: Final = _wrapping(begin_format, lambda step, result: None)
"""The messages an adapter made are those of the LM call that follows; they are not kept twice."""

adapter_parse: Final = _wrapping(begin_parse)


# --- tools, retrievers, embedders, interpreters --------------------------------------------------------------------------


def begin_tool(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    """The step of a tool."""
    name = str(owner.name)
    attributes = {names.OPERATION_NAME: "execute_tool", names.TOOL_NAME: name, names.TOOL_TYPE: "function"}
    return Step(
        f"execute_tool {name}",
        "tool",
        attributes,
        inputs=lambda: arguments(args, kwargs),
        content_names=(names.TOOL_ARGUMENTS, names.TOOL_RESULT),
        content=lambda: _agents.description(owner),
    )


tool: Final = _wrapping(begin_tool)


def _begin_retriever(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step | None:
    place, work = _scope.place(), (id(owner), "retrieval")
    if work in place.running:  # an override that calls its base class
        return None
    name = type(owner).__name__
    attributes: dict[str, Any] = {names.OPERATION_NAME: "retrieval"}
    count = kwargs.get("k", getattr(owner, "k", None))
    if type(count) is int:
        attributes[names.RETRIEVAL_TOP_K] = count
    attributes |= address_of(getattr(owner, "url", None))
    return Step(
        f"retrieval {name}",
        "retriever",
        attributes,
        span_kind=SpanKind.CLIENT,
        inputs=lambda: plain(args[0]) if len(args) == 1 else arguments(args, kwargs),
        content_names=(names.RETRIEVAL_QUERY, names.RETRIEVAL_DOCUMENTS),
        place=place.within(work),
    )


retriever: Final = _wrapping(_begin_retriever)


def _begin_search(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step | None:
    """The step of a `dspy.Retrieve`, unless it only asks the configured retriever and that has one of its own."""
    import dspy

    kind = type(owner)
    only_asks = kind.__call__ is dspy.Retrieve.__call__ and kind.forward is dspy.Retrieve.forward
    if only_asks and isinstance(dspy.settings.rm, (dspy.Retrieve, dspy.ColBERTv2, dspy.Embeddings)):
        return None
    return _begin_retriever(owner, args, kwargs)


search: Final = _wrapping(_begin_search)


def _begin_embedder(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    model = (
        owner.model if isinstance(owner.model, str) else getattr(owner.model, "__name__", type(owner.model).__name__)
    )
    return Step(f"Embedder {model}", "embedder", {names.REQUEST_MODEL: model}, inputs=lambda: arguments(args, kwargs))


embedder: Final = _wrapping(_begin_embedder, lambda step, result: None)
"""Vectors are in the row of the embeddings call, where a provider made them."""


def _begin_interpreter(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Step:
    return Step(f"{type(owner).__name__}.execute", "interpreter", inputs=lambda: arguments(args, kwargs))


interpreter: Final = _wrapping(_begin_interpreter)


# --- evaluations and optimisers --------------------------------------------------------------------------------------------


evaluation: Final = _wrapping(_evaluations.begin, _evaluations.Evaluating.keep)


def _begin_compilation(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Compiling:
    student = args[0] if args else kwargs.get("student")
    optimiser = type(owner).__name__
    step = Step(
        f"compile {optimiser}",
        "compile",
        inputs=lambda: {"student": type(student).__name__, **_plain_options(kwargs)},
    )
    data = kwargs.get("trainset")
    return Compiling(optimiser, step, data if isinstance(data, list) else ())


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
    outputs = None if scores is None else lambda: {"scores": scores}
    compiling.step.note(outputs, identity_of(predictors_of(result)))


compilation: Final = _wrapping(_begin_compilation, _note_candidates)
