"""`instrument()` for LiteLLM: puts the wrappers where the functions were, wherever somebody holds one of them.

LiteLLM is never imported here. If it is not imported yet, that is done as soon as it is (`lmtrace.integrations._imports`). A program may have
taken ``from litellm import completion`` before: every module is searched for the very function objects that are replaced.
"""

from __future__ import annotations

import importlib
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from lmtrace._data import ModelType
from lmtrace._failures import failures
from lmtrace.integrations import _imports
from lmtrace.integrations.litellm import _watch
from lmtrace.integrations.litellm._wrappers import (
    ORIGINAL,
    wrap,
    wrap_callbacks,
    wrap_generic,
    wrap_hop,
    wrap_retries,
)

_FUNCTIONS: Final[Mapping[str, ModelType]] = {
    "completion": "chat",
    "acompletion": "chat",
    "text_completion": "text",
    "atext_completion": "text",
    "responses": "responses",
    "aresponses": "responses",
    "embedding": "embedding",
    "aembedding": "embedding",
}

_RETRIES: Final[Mapping[str, ModelType]] = {
    "completion_with_retries": "chat",
    "acompletion_with_retries": "chat",
    "responses_with_retries": "responses",
    "aresponses_with_retries": "responses",
}

_HOP: Final = "run_async_function"

_HOMES: Final = (
    "litellm",
    "litellm.main",
    "litellm.responses.main",
    "litellm.litellm_core_utils.asyncify",
    "litellm.chat_completions.dispatch",
    "litellm.embeddings.dispatch",
    "litellm.responses.dispatch",
)
"""The modules in which LiteLLM's public functions are defined or offered."""

_GENERIC: Final = ("_generic_api_call_with_fallbacks", "_ageneric_api_call_with_fallbacks")
"""Methods of a Router through which its `responses` and `aresponses` go, which are made anew for each Router."""

_CALLBACKS: Final = ("success_handler", "failure_handler", "async_success_handler", "async_failure_handler")

Method = tuple[Any, str, Callable[..., Any]]
"""A class, the name of a method, and the function that is there now."""

_lock = threading.RLock()
_is_on = False
_sessions = 0
_is_in_place = False
"""Whether wrappers were put in place, or will be as soon as LiteLLM is imported."""


def instrument() -> None:
    """Record every call made through LiteLLM from now on. Idempotent; never imports LiteLLM."""
    global _is_on
    with _lock:
        _is_on = True
        _watch.records = True
        _put_in_place()


def prepare() -> None:
    """Have LiteLLM's calls go to the server of a session, until `release`; otherwise nothing changes."""
    global _sessions
    with _lock:
        _sessions += 1
        _watch.records = _is_on
        if not _is_in_place:
            _put_in_place()


def release() -> None:
    """The end of a session. The wrappers stay for the next one: to replace functions everywhere takes 30 ms."""
    global _sessions
    with _lock:
        _sessions -= 1


def _put_in_place() -> None:
    global _is_in_place
    _is_in_place = True
    if "litellm" not in sys.modules:
        _imports.after_import("litellm", _imported)
    elif _imports.is_importing("litellm"):
        threading.Thread(target=_wait_and_patch, name="lmtrace-instrument", daemon=True).start()
    else:
        _patch()


def uninstrument() -> None:
    """Put LiteLLM's own functions back everywhere; at the end of a session where one is open."""
    global _is_on, _is_in_place
    with _lock:
        _is_on = False
        _watch.records = False
        if _sessions:
            return
        _is_in_place = False
        _imports.forget("litellm")
        originals = {id(wrapper): getattr(wrapper, ORIGINAL) for wrapper in _wrappers()}
        _replace(originals)
        for cls, name, method in (*_router_methods(), *_callback_methods()):
            setattr(cls, name, getattr(method, ORIGINAL, method))


def _wait_and_patch() -> None:
    """Another thread is in the middle of importing LiteLLM: asking for it waits until that is done."""
    importlib.import_module("litellm")
    _imported()


def _imported() -> None:
    """LiteLLM has just been imported."""
    with _lock:
        if not _is_in_place:
            return
        try:
            _patch()
        except Exception as error:  # never into the program's import statement
            failures.note("instrumenting LiteLLM", error)


def _patch() -> None:
    """Replaces what is not replaced yet."""
    found: dict[int, Callable[..., Any]] = {}
    for name, function in _offered():
        if id(function) not in found and not hasattr(function, ORIGINAL):
            found[id(function)] = _wrap_function(name, function)
    _replace(found)
    for cls, name, method in _router_methods():
        if not hasattr(method, ORIGINAL):
            setattr(cls, name, _wrap_method(name, method))
    for cls, name, method in _callback_methods():
        if not hasattr(method, ORIGINAL):
            setattr(cls, name, wrap_callbacks(method))


def _wrap_function(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    if name == _HOP:
        return wrap_hop(function)
    return wrap_retries(function, _RETRIES[name]) if name in _RETRIES else wrap(function, _FUNCTIONS[name])


def _wrap_method(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    return wrap_generic(method, "responses") if name in _GENERIC else wrap(method, _FUNCTIONS[name], is_method=True)


def _offered() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The functions LiteLLM offers, by name, wherever it does."""
    for home in _HOMES:
        module = sys.modules.get(home)
        for name in (*_FUNCTIONS, *_RETRIES, _HOP):
            function = vars(module).get(name) if module is not None else None
            if isinstance(function, types.FunctionType):
                yield name, function


def _wrappers() -> Iterator[Callable[..., Any]]:
    for _, function in _offered():
        if hasattr(function, ORIGINAL):
            yield function


def _replace(replacements: Mapping[int, Callable[..., Any]]) -> None:
    """Puts each replacement wherever a module holds the object of that identity.

    LiteLLM's private names are left alone: its public functions reach the ones behind them by these, once a call.
    """
    for home, module in sys.modules.copy().items():  # a copy in one step: other threads import
        names = getattr(module, "__dict__", None)
        if type(names) is not dict:
            continue
        is_litellm = home.startswith("litellm.")
        for name, value in names.copy().items():
            if type(value) is types.FunctionType and id(value) in replacements and not (is_litellm and name[0] == "_"):
                names[name] = replacements[id(value)]


def _router_methods() -> Iterator[Method]:
    """The methods of LiteLLM's Router to watch, as far as this version has them."""
    return _methods("litellm.router", "Router", (*_FUNCTIONS, *_GENERIC))


def _callback_methods() -> Iterator[Method]:
    """The methods in which LiteLLM runs callbacks after a call, beside the program or in another thread."""
    return _methods("litellm.litellm_core_utils.litellm_logging", "Logging", _CALLBACKS)


def _methods(module: str, cls: str, names: Iterable[str]) -> Iterator[Method]:
    owner = getattr(sys.modules.get(module), cls, None)
    for name in names:
        method = vars(owner).get(name) if owner is not None else None
        if isinstance(method, types.FunctionType):
            yield owner, name, method
