"""LM calls of DSPy: one record for each public call, whatever answers it and however it is made.

The record is opened around ``BaseLM.__call__``; the answer is taken from the call itself, at the one place of each version
through which it passes (`targets`), and never from ``lm.history[-1]``, which another thread may have written. Calls of
LiteLLM inside belong to it and are not recorded again.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from lmtrace import _recorder
from lmtrace._failures import failures
from lmtrace._recorder import CallRecord
from lmtrace.integrations._patching import Function, Switch
from lmtrace.integrations.dspy import _answers, _requests
from lmtrace.integrations.litellm._translate import UNREADABLE


class Call:
    """A call in flight, and what was seen of its answer on the way."""

    __slots__ = ("_record", "_token", "seen")

    def __init__(self, record: CallRecord) -> None:
        self._record = record
        self.seen: Any = None

    def __enter__(self) -> None:
        self._token = _current.set(self)
        self._record.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._token)
        self._record.__exit__(kind, error, trace)

    def returned(self, lm: Any, result: Any) -> None:
        """Records the answer."""
        try:
            response, engine = _answers.read(lm, self.seen, result)
            self._record.note({_answers.ENGINE: engine})
        except Exception as error:
            response = UNREADABLE
            failures.note("reading an answer of DSPy", error)
        self._record.finish(response)


_current: ContextVar[Call | None] = ContextVar("lmtrace.dspy.call", default=None)


def targets(base: Any, release: tuple[int, int]) -> Iterator[tuple[Any, str, Callable[[Function, Switch], Function]]]:
    """The methods to wrap: the public calls, and the place where this version's answers pass."""
    yield base, "__call__", wrap_call
    yield base, "acall", wrap_call
    if release >= (3, 4):
        from dspy.clients import execution

        yield execution, "execute", seeing_result
        yield execution, "aexecute", seeing_result
        return
    yield base, "_process_lm_response", seeing_argument
    if release >= (3, 3):
        yield base, "_finalize_lm_response", seeing_result


def wrap_call(original: Function, switch: Switch) -> Function:
    """A wrapper of ``BaseLM.__call__`` or ``acall``."""

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = _begin(self, args, kwargs) if switch.is_on else None
        if call is None:
            return original(self, *args, **kwargs)
        with call:
            result = original(self, *args, **kwargs)
        call.returned(self, result)
        return result

    @functools.wraps(original)
    async def async_wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = _begin(self, args, kwargs) if switch.is_on else None
        if call is None:
            return await original(self, *args, **kwargs)
        with call:
            result = await original(self, *args, **kwargs)
        call.returned(self, result)
        return result

    return async_wrapper if inspect.iscoroutinefunction(original) else wrapper


def _begin(lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    try:
        outer = _recorder.active_call()
        if outer is not None and outer.entry is None:
            return None
        request, secrets = _requests.read(lm, args, kwargs)
        return Call(_recorder.current().start(request, secrets))
    except Exception as error:
        failures.note("reading a call of DSPy", error)
        return None


def _see(seen: Any) -> None:
    call = _current.get()
    if call is not None:
        call.seen = seen


def seeing_result(original: Function, switch: Switch) -> Function:
    """A wrapper of a function through whose result every answer passes."""

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        _see(result)
        return result

    @functools.wraps(original)
    async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        _see(result)
        return result

    return async_wrapper if inspect.iscoroutinefunction(original) else wrapper


def seeing_argument(original: Function, switch: Switch) -> Function:
    """A wrapper of a method that every answer is given to first."""

    @functools.wraps(original)
    def wrapper(self: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        _see(response)
        return original(self, response, *args, **kwargs)

    return wrapper
