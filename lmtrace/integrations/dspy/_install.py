"""Puts the wrappers around DSPy's methods, and takes them away again.

Classes that a program defines later (adapters, optimisers) are wrapped when they are defined: DSPy tells its base classes
of each subclass, and so does the wrapper of ``__init_subclass__`` here.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from lmtrace._failures import failures
from lmtrace.integrations import _imports
from lmtrace.integrations._patching import Function, Patch, Switch
from lmtrace.integrations.dspy import _calls, _parallel, _steps_of
from lmtrace.integrations.dspy._versions import release_of

_lock: Final = threading.RLock()
_is_on = False
_patches: list[Patch] = []

Wrap = Callable[[Function, Switch], Function]


def instrument() -> None:
    """Record DSPy programs from now on. Idempotent; never imports DSPy."""
    global _is_on
    with _lock:
        _is_on = True
        if "dspy" not in sys.modules or _imports.is_importing("dspy"):
            _imports.after_import("dspy", _imported)
        elif not _patches:
            _patch()


def uninstrument() -> None:
    """Put DSPy's own methods back."""
    global _is_on
    with _lock:
        _is_on = False
        _imports.forget("dspy")
        for patch in reversed(_patches):
            patch.remove()
        _patches.clear()


def _imported() -> None:
    """DSPy has just been imported."""
    with _lock:
        if not _is_on or _patches:
            return
        try:
            _patch()
        except Exception as error:  # never into the program's import statement
            failures.note("instrumenting DSPy", error, f" {error}")


def _patch() -> None:
    """Wraps everything, or nothing at all.

    Raises:
        UnsupportedDSPyError: this version of DSPy is not known.
    """
    release = release_of(sys.modules["dspy"])
    if release is None:
        return
    try:
        for owner, name, wrap in _targets(release):
            _install(owner, name, wrap)
    except BaseException:
        for patch in reversed(_patches):
            patch.remove()
        _patches.clear()
        raise


def _install(owner: Any, name: str, wrap: Wrap) -> None:
    patch = Patch(owner, name, wrap)
    patch.install()
    _patches.append(patch)


def _targets(release: tuple[int, int]) -> Iterator[tuple[Any, str, Wrap]]:
    """Each method to wrap: its owner, its name and what wraps it."""
    import dspy
    from dspy.primitives.python_interpreter import PythonInterpreter
    from dspy.teleprompt.teleprompt import Teleprompter
    from dspy.utils.parallelizer import ParallelExecutor

    yield from _calls.targets(dspy.BaseLM, release)
    yield from _both(dspy.Module, _steps_of.module)
    yield from _both(dspy.Tool, _steps_of.tool)
    yield from _both(dspy.Embedder, _steps_of.embedder)
    yield dspy.Retrieve, "__call__", _steps_of.retriever
    yield dspy.Evaluate, "__call__", _steps_of.evaluation
    yield PythonInterpreter, "execute", _steps_of.interpreter
    yield ParallelExecutor, "execute", _parallel.wrap_execute
    yield from _family(dspy.Adapter, _ADAPTER)
    yield from _family(Teleprompter, _OPTIMISER)


def _both(owner: Any, wrap: Wrap) -> Iterator[tuple[Any, str, Wrap]]:
    yield owner, "__call__", wrap
    yield owner, "acall", wrap


_ADAPTER: Final[dict[str, Wrap]] = {
    "__call__": _steps_of.adapter,
    "acall": _steps_of.adapter,
    "format": _steps_of.adapter_format,
    "parse": _steps_of.adapter_parse,
}
_OPTIMISER: Final[dict[str, Wrap]] = {"compile": _steps_of.compilation}


def _family(base: Any, methods: dict[str, Wrap]) -> Iterator[tuple[Any, str, Wrap]]:
    """The methods of a class and of its subclasses, those that are still to come included."""
    for cls in _descendants(base):
        yield from ((cls, name, wrap) for name, wrap in methods.items() if name in vars(cls))

    def wrap_init_subclass(original: Function, switch: Switch) -> Any:
        def wrapper(cls: Any, /, **kwargs: Any) -> None:
            getattr(original, "__func__", original)(cls, **kwargs)
            if switch.is_on:
                _adopt(cls, methods)

        return classmethod(wrapper)

    yield base, "__init_subclass__", wrap_init_subclass


def _adopt(cls: Any, methods: dict[str, Wrap]) -> None:
    """Wraps the methods of a class that has just been defined."""
    with _lock:
        for name, wrap in methods.items():
            if name in vars(cls):
                _install(cls, name, wrap)


def _descendants(cls: Any) -> Iterator[Any]:
    yield cls
    for child in cls.__subclasses__():
        yield from _descendants(child)
