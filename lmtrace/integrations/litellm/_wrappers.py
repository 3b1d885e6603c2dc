"""The functions that stand in for LiteLLM's: they record the outermost call and make every call as it was meant.

Arguments, results and errors pass untouched, and a wrapper of an async function is one too. `own` is how many leading
arguments belong to the function itself: one, the Router, for a method.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final

from opentelemetry import context

from lmtrace import _serving
from lmtrace._data import ModelType
from lmtrace._record import active_call
from lmtrace.integrations.litellm import _watch
from lmtrace.integrations.litellm._asked import parameter_names
from lmtrace.integrations.litellm._served import Original, aask, ask

ORIGINAL: Final = "_lmtrace_original"
"""The attribute of a wrapper that holds what it wraps."""


def wrap(original: Callable[..., Any], model_type: ModelType, *, is_method: bool = False) -> Callable[..., Any]:
    """A wrapper that records calls of a function, or of a method of a Router."""
    make = _async_wrapper if inspect.iscoroutinefunction(original) else _sync_wrapper
    own = 1 if is_method else 0
    wrapper = make(original, model_type, parameter_names(original, model_type), own)
    setattr(wrapper, ORIGINAL, original)
    return wrapper


def _sync_wrapper(
    original: Callable[..., Any], model_type: ModelType, names: tuple[str, ...], own: int
) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        watch = _watch.begin(model_type, args[own:], kwargs, names, router=args[0] if own else None)
        if watch is None:
            with _watch.InnerCall():
                return original(*args, **kwargs)
        server = _serving.current()
        with watch:
            if server is None:
                result = original(*args, **kwargs)
            else:
                result = ask(server, Original(original, args, kwargs), watch.record)
        return watch.returned(result)

    return wrapper


def _async_wrapper(
    original: Callable[..., Any], model_type: ModelType, names: tuple[str, ...], own: int
) -> Callable[..., Any]:
    @functools.wraps(original)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        watch = _watch.begin(model_type, args[own:], kwargs, names, router=args[0] if own else None)
        if watch is None:
            with _watch.InnerCall():
                return await original(*args, **kwargs)
        server = _serving.current()
        with watch:
            if server is None:
                result = await original(*args, **kwargs)
            else:
                result = await aask(server, Original(original, args, kwargs), watch.record)
        return watch.returned(result)

    return wrapper


def wrap_retries(original: Callable[..., Any], model_type: ModelType) -> Callable[..., Any]:
    """A wrapper of one of LiteLLM's retry loops, which LiteLLM enters while it handles the first attempt's error."""
    recorded = wrap(original, model_type)

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        _watch.retrying()
        return recorded(*args, **kwargs)

    @functools.wraps(original)
    async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
        _watch.retrying()
        return await recorded(*args, **kwargs)

    chosen = async_wrapper if inspect.iscoroutinefunction(original) else wrapper
    setattr(chosen, ORIGINAL, original)
    return chosen


def wrap_hop(original: Callable[..., Any]) -> Callable[..., Any]:
    """A wrapper of LiteLLM's ``run_async_function``, which leaves the context behind when a loop is running (notebooks)."""

    @functools.wraps(original)
    def wrapper(async_function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if active_call() is None:
            return original(async_function, *args, **kwargs)
        here = context.get_current()

        async def carried(*args: Any, **kwargs: Any) -> Any:
            token = context.attach(here)
            try:
                return await async_function(*args, **kwargs)
            finally:
                context.detach(token)

        return original(carried, *args, **kwargs)

    setattr(wrapper, ORIGINAL, original)
    return wrapper


def wrap_callbacks(original: Callable[..., Any]) -> Callable[..., Any]:
    """A wrapper of a method that runs callbacks: calls they make are calls of their own, not parts of the one they follow.

    LiteLLM starts them while the function that made the call is still returning, in a copy of its context.
    """

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with _watch.apart():
            return original(*args, **kwargs)

    @functools.wraps(original)
    async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
        with _watch.apart():
            return await original(*args, **kwargs)

    chosen = async_wrapper if inspect.iscoroutinefunction(original) else wrapper
    setattr(chosen, ORIGINAL, original)
    return chosen


def wrap_generic(original: Callable[..., Any], model_type: ModelType) -> Callable[..., Any]:
    """A wrapper of the Router's method for any function there is: recorded when it is given one for Responses."""
    recorded = wrap(original, model_type, is_method=True)

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        name = getattr(kwargs.get("original_function"), "__name__", None)
        return (recorded if name in ("responses", "aresponses") else original)(*args, **kwargs)

    setattr(wrapper, ORIGINAL, original)
    return wrapper
