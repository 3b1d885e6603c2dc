"""Who is calling: the run and the modules a call belongs to, carried by the context.

A worker thread of the caller's own making starts with an empty context. Calls made there belong to the run of the process
when exactly one is active; with several, nobody can tell, and the call belongs to none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import orjson

from lmtrace._entry import RunInfo

if TYPE_CHECKING:
    from lmtrace._redactor import Redactor
    from lmtrace._runs import Run
    from lmtrace._steps import Step

_run: ContextVar[Run | None] = ContextVar("lmtrace.run", default=None)
_active: list[Run] = []

_NOTHING: Final[Mapping[str, str]] = {}


class Place:
    """Where in a program code runs. Immutable, but for its step; one object, because the context is looked at in each call."""

    __slots__ = ("details", "modules", "running", "scope", "step")

    def __init__(
        self,
        modules: tuple[Any, ...] = (),
        scope: str | None = None,
        details: Mapping[str, str] = _NOTHING,
        running: tuple[Any, ...] = (),
        step: Step | None = None,
    ) -> None:
        self.modules = modules
        """The modules around, outermost first."""
        self.scope = scope
        """Their names, as ``Program.predictor``, or None."""
        self.details = details
        """What the framework around says of the calls made here: columns of their rows."""
        self.running = running
        """What is at work here and opens no second step."""
        self.step = step
        """The innermost step of a module."""

    def inside(self, module: Any, name: str) -> Place:
        """The place in a module."""
        scope = name if self.scope is None else f"{self.scope}.{name}"
        return Place((*self.modules, module), scope, self.details, self.running, self.step)

    def detailed(self, more: Mapping[str, str]) -> Place:
        """The same place with more said about its calls."""
        return Place(self.modules, self.scope, {**self.details, **more}, self.running, self.step)

    def within(self, work: Any) -> Place:
        """The place in a piece of work."""
        return Place(self.modules, self.scope, self.details, (*self.running, work), self.step)


_place: ContextVar[Place] = ContextVar("lmtrace.place", default=Place())  # noqa: B039 - an empty one, never changed

place: Final = _place.get
"""Where the calling code runs."""

enter: Final = _place.set
"""Say that the calling code runs in another place; returns what `leave` needs."""

leave: Final = _place.reset
"""Undo `enter`."""


def current_run() -> Run | None:
    """The run the calling code belongs to, or None."""
    run = _run.get()
    if run is None and len(_active) == 1:
        run = _active[0]
    return run


def process_run(redactor: Redactor) -> RunInfo | None:
    """The run the whole process belongs to, when ``lmtrace run`` started it.

    Its name and tags stand on spans, so they are cleaned.
    """
    run_id = os.environ.get("LMTRACE_RUN_ID")
    if not run_id:
        return None
    name = os.environ.get("LMTRACE_RUN_NAME", "")
    return RunInfo(run_id=run_id, name=redactor.text(name, {}), tags=_process_tags(redactor))


def _process_tags(redactor: Redactor) -> Mapping[str, str]:
    try:
        tags = orjson.loads(os.environ.get("LMTRACE_RUN_TAGS", "{}"))
        return {redactor.text(str(key), {}): redactor.text(str(value), {}) for key, value in tags.items()}
    except (ValueError, AttributeError):  # not what the command wrote, but somebody's variable
        return {}


def enter_run(run: Run) -> Any:
    """Make `run` current; returns what `exit_run` needs."""
    _active.append(run)
    return _run.set(run)


def exit_run(run: Run, token: Any) -> None:
    """Undo `enter_run`."""
    _active.remove(run)
    try:
        _run.reset(token)
    except ValueError:  # left in another context than it was entered in, as async generators do
        _run.set(None)


@contextmanager
def caller_module(module: Any, name: str | None = None) -> Iterator[None]:
    """Say that `module` makes the LM calls of this block.

    Its name becomes the last part of their `scope`, and its `history` list, when it has one, gets their entries, as
    DSPy's modules do. Blocks nest: ``RAG`` around ``generate_answer`` gives the scope ``RAG.generate_answer``.

    Args:
        module: Any object.
        name: What to call it; its `name` attribute or class name by default.
    """
    label = name or getattr(module, "name", None) or type(module).__name__
    token = enter(place().inside(module, str(label)))
    try:
        yield
    finally:
        leave(token)


def caller_modules() -> tuple[Any, ...]:
    """The modules of the enclosing `caller_module` blocks, outermost first."""
    return place().modules


@contextmanager
def detailed(**more: str) -> Iterator[None]:
    """Say more about the LM calls of this block."""
    token = enter(place().detailed(more))
    try:
        yield
    finally:
        leave(token)


_carried: Final[list[ContextVar[Any]]] = [_run, _place]


def carry(variable: ContextVar[Any]) -> None:
    """Have `Carried` carry one more variable."""
    _carried.append(variable)


class Carried:
    """The run and the place of the code that made it, to be entered by a worker thread."""

    def __init__(self) -> None:
        self._variables: Final[tuple[tuple[ContextVar[Any], Any], ...]] = tuple(
            (variable, variable.get()) for variable in _carried
        )

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Make what was carried that of the calling code."""
        tokens = [(variable, variable.set(value)) for variable, value in self._variables]
        try:
            yield
        finally:
            for variable, token in tokens:
                variable.reset(token)


def scope() -> str | None:
    """The module path of the caller, as ``Program.predictor``, or None."""
    return place().scope
