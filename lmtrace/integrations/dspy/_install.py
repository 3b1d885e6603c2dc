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
from lmtrace.integrations.dspy import (
    _bootstrapping,
    _bound,
    _caches,
    _calls,
    _compatible,
    _configured,
    _embedder_cache,
    _execution,
    _parallel,
    _steps_of,
    _store_cache,
    _trials,
)
from lmtrace.integrations.dspy._versions import release_of

_lock: Final = threading.RLock()
_is_on = False
_sessions = 0

Wrap = Callable[[Function, Switch], Function]


class Group:
    """Wrappers that come and go together: all of them, or none.

    Args:
        targets: Each method to wrap in a release: its owner, its name and what wraps it.
    """

    def __init__(self, targets: Callable[[tuple[int, int], Group], Iterator[tuple[Any, str, Wrap]]]) -> None:
        self._targets = targets
        self._patches: list[Patch] = []

    def put(self, release: tuple[int, int]) -> None:
        """Wrap what is not wrapped yet."""
        if self._patches:
            return
        try:
            for owner, name, wrap in self._targets(release, self):
                self.add(owner, name, wrap)
        except BaseException:
            self.remove()
            raise

    def add(self, owner: Any, name: str, wrap: Wrap) -> None:
        """Wrap one more method."""
        patch = Patch(owner, name, wrap)
        patch.install()
        self._patches.append(patch)

    def adopt(self, cls: Any, methods: dict[str, Wrap]) -> None:
        """Wrap the methods of a class that has just been defined."""
        with _lock:
            for name, wrap in methods.items():
                if name in vars(cls):
                    self.add(cls, name, wrap)

    def remove(self) -> None:
        """Put the methods back."""
        for patch in reversed(self._patches):
            patch.remove()
        self._patches.clear()


def is_on() -> bool:
    """Whether programs are recorded by the wrappers."""
    return _is_on


def instrument(*, cache: bool | None = None) -> None:
    """Record DSPy programs from now on. Idempotent; never imports DSPy.

    Args:
        cache: Whether the store's cache takes the place of DSPy's; None leaves that as it is.
    """
    global _is_on
    with _lock:
        _is_on = True
        if cache is not None:
            _store_cache.is_on = cache
        _arrange()


def uninstrument() -> None:
    """Put DSPy's own methods back; those that a session needs when it ends."""
    global _is_on
    with _lock:
        _is_on = _store_cache.is_on = False
        _arrange()


def prepare() -> None:
    """Have DSPy's LM calls go to the server of a session and its caches stay empty, until `release`.

    Raises:
        UnsupportedDSPyError: this version of DSPy is not known.
    """
    global _sessions
    with _lock:
        _sessions += 1
        try:
            _arrange()
        except BaseException:
            release()
            raise


def release() -> None:
    """The end of a session."""
    global _sessions
    with _lock:
        _sessions -= 1
        _arrange()


def rearrange() -> None:
    """A task of a session that is over has begun or ended."""
    with _lock:
        _arrange()


def _arrange(*, is_there: bool = False) -> None:
    """Has the wrappers in place that are wanted now, or as soon as DSPy is imported, and no others.

    Args:
        is_there: DSPy's modules have run, although the import may not have returned yet.

    Raises:
        UnsupportedDSPyError: this version of DSPy is not known.
    """
    has_session = _sessions > 0 or _bound.is_busy()
    wanted = {_CALLS: _is_on or has_session, _STEPS: _is_on, _SERVING: has_session or _store_cache.is_on}
    for group, is_wanted in reversed(wanted.items()):
        if not is_wanted:
            group.remove()
    if not wanted[_CALLS]:
        _imports.forget("dspy")
    elif not is_there and ("dspy" not in sys.modules or _imports.is_importing("dspy")):
        _imports.after_import("dspy", _imported)
    else:
        release = release_of(sys.modules["dspy"])
        for group, is_wanted in wanted.items():
            if is_wanted and release is not None:
                group.put(release)


def _imported() -> None:
    """DSPy has just been imported."""
    with _lock:
        try:
            _arrange(is_there=True)
        except Exception as error:  # never into the program's import statement
            failures.note("instrumenting DSPy", error, f" {error}")


def _calls_targets(release: tuple[int, int], group: Group) -> Iterator[tuple[Any, str, Wrap]]:
    """LM calls, and the thread pools that make them."""
    import dspy
    from dspy.utils.parallelizer import ParallelExecutor

    yield from _calls.targets(dspy.BaseLM, release)
    yield ParallelExecutor, "execute", _parallel.wrap_execute
    yield dspy, "configure", _configured.wrap_settings
    yield dspy, "context", _configured.wrap_settings


def _steps_targets(release: tuple[int, int], group: Group) -> Iterator[tuple[Any, str, Wrap]]:
    import dspy
    from dspy.primitives.python_interpreter import PythonInterpreter
    from dspy.teleprompt import bootstrap, simba
    from dspy.teleprompt.teleprompt import Teleprompter

    yield from _both(dspy.Module, _steps_of.module)
    yield from _both(dspy.Tool, _steps_of.tool)
    yield from _both(dspy.Embedder, _steps_of.embedder)
    yield from _family(group, dspy.Retrieve, {"__call__": _steps_of.search})
    yield from _family(group, dspy.ColBERTv2, _RETRIEVER)
    yield from _family(group, dspy.Embeddings, _RETRIEVER)
    yield dspy.Evaluate, "__call__", _steps_of.evaluation
    yield PythonInterpreter, "execute", _steps_of.interpreter
    yield from _family(group, dspy.Adapter, _ADAPTER)
    yield from _family(group, Teleprompter, _OPTIMISER)
    yield simba, "wrap_program", _trials.wrap_trial
    yield bootstrap.BootstrapFewShot, "_bootstrap_one_example", _bootstrapping.wrap_attempt


def _serving_targets(release: tuple[int, int], group: Group) -> Iterator[tuple[Any, str, Wrap]]:
    """Where a session or the store's cache answers, and the cache that must not."""
    import dspy
    from dspy.clients import embedding
    from dspy.clients.cache import Cache

    yield Cache, "get", _caches.wrap_get
    yield Cache, "put", _caches.wrap_put
    yield embedding, "_cached_compute_embeddings", _embedder_cache.wrap_embeddings
    yield embedding, "_cached_acompute_embeddings", _embedder_cache.wrap_embeddings
    if release >= (3, 4):
        yield dspy.LM, "forward", _execution.wrap_forward
        yield dspy.LM, "aforward", _execution.wrap_forward
        return
    yield dspy.LM, "_get_cached_completion_fn", _compatible.wrap_completion_choice
    yield from _family(group, dspy.BaseLM, _CUSTOM_LM, but=dspy.LM)


def _both(owner: Any, wrap: Wrap) -> Iterator[tuple[Any, str, Wrap]]:
    yield owner, "__call__", wrap
    yield owner, "acall", wrap


_ADAPTER: Final[dict[str, Wrap]] = {
    "__call__": _steps_of.adapter,
    "acall": _steps_of.adapter,
    "format": _steps_of.adapter_format,
    "parse": _steps_of.adapter_parse,
}
_RETRIEVER: Final[dict[str, Wrap]] = {"__call__": _steps_of.retriever}
_OPTIMISER: Final[dict[str, Wrap]] = {"compile": _steps_of.compilation}


_CUSTOM_LM: Final[dict[str, Wrap]] = {"forward": _compatible.wrap_forward, "aforward": _compatible.wrap_forward}

_CALLS: Final = Group(_calls_targets)
_STEPS: Final = Group(_steps_targets)
_SERVING: Final = Group(_serving_targets)


def _family(group: Group, base: Any, methods: dict[str, Wrap], but: Any = None) -> Iterator[tuple[Any, str, Wrap]]:
    """The methods of a class and of its subclasses, those that are still to come included; not those of `but` itself."""
    for cls in _descendants(base):
        if cls is not but:
            yield from ((cls, name, wrap) for name, wrap in methods.items() if name in vars(cls))

    def wrap_init_subclass(original: Function, switch: Switch) -> Any:
        def wrapper(cls: Any, /, **kwargs: Any) -> None:
            function = getattr(original, "__func__", None)
            if function is not None:
                function(cls, **kwargs)
            else:  # Python's own, which is bound to the base already
                super(base, cls).__init_subclass__(**kwargs)
            if switch.is_on:
                group.adopt(cls, methods)

        return classmethod(wrapper)

    yield base, "__init_subclass__", wrap_init_subclass


def _descendants(cls: Any) -> Iterator[Any]:
    yield cls
    for child in cls.__subclasses__():
        yield from _descendants(child)
