"""LM calls of DSPy: one record for each public call, whatever answers it and however it is made.

The record is opened around ``BaseLM.__call__``; the answer is taken from the call itself, at the one place of each version
through which it passes (`targets`), and never from ``lm.history[-1]``, which another thread may have written. Calls of
LiteLLM inside belong to it and are not recorded again.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from lmtrace import _recorder, _serving
from lmtrace._data import LMResponse
from lmtrace._failures import failures
from lmtrace._record import CallRecord, active_call
from lmtrace.integrations._patching import Function, Switch
from lmtrace.integrations.dspy import _answers, _bound, _notices, _requests
from lmtrace.integrations.dspy._listeners import overheard
from lmtrace.integrations.dspy._store_cache import StoreCache, cache_for
from lmtrace.integrations.litellm._translate import UNREADABLE


class Call:
    """A call in flight, and what was seen of its answer on the way."""

    __slots__ = ("_is_asked", "_listening", "_server", "_token", "is_cached", "record", "secrets", "seen", "served")

    def __init__(self, record: CallRecord, secrets: Mapping[str, Any], cache: StoreCache | None) -> None:
        self.record = record
        self.secrets = secrets
        self.seen: Any = None
        self.served: LMResponse | None = None
        """The answer, where DSPy was not asked for it."""
        session = _serving.current()
        self._server: _serving.Server | None = session or cache
        self.is_cached = session is None and cache is not None
        """Whether the store's cache stands in the place of DSPy's."""
        self._is_asked = False
        self._listening: Any = None

    def __enter__(self) -> None:
        self._token = _current.set(self)
        self.record.__enter__()
        if self.record.request.stream:
            self._listening = overheard(self.record)
            self._listening.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listening is not None:
            self._listening.__exit__(None, None, None)
        _current.reset(self._token)
        self.record.__exit__(kind, error, trace)

    @property
    def is_unserved(self) -> bool:
        """Whether somebody else may answer, and has not been asked yet."""
        return self._server is not None and not self._is_asked and self.record.entry is None

    @property
    def is_whole(self) -> bool:
        """Whether the answer is asked for in one piece; for a cache also if DSPy sends it to the program in many."""
        return self.is_cached or not self.record.request.stream

    def begin_serving(self) -> _serving.Server:
        """Who is to be asked for the answer, from here and from nowhere inside of here."""
        self._is_asked = True
        assert self._server is not None
        return self._server

    def serve(self, answer: LMResponse, give: Callable[[LMResponse], Any]) -> Any:
        """What DSPy goes on with when somebody else answers."""
        self.served = answer
        return give(answer)

    def returned(self, lm: Any, result: Any) -> None:
        """Records the answer."""
        if self.served is not None:
            self.record.finish(self.served)
            return
        try:
            response, engine = _answers.read(lm, self.seen, result)
            self.record.note({_answers.ENGINE: engine})
        except Exception as error:
            response = UNREADABLE
            failures.note("reading an answer of DSPy", error)
        self.record.finish(response)


_NOBODY: Any = None
"""In the place of a backend, for a session that asks none any more."""

_current: ContextVar[Call | None] = ContextVar("lmtrace.dspy.call", default=None)


def targets(base: Any, release: tuple[int, int]) -> Iterator[tuple[Any, str, Callable[[Function, Switch], Function]]]:
    """The methods to wrap: the public calls, and the place where this version's answers pass."""
    yield base, "__call__", wrap_call
    yield base, "acall", wrap_call
    if release >= (3, 4):
        from dspy.clients import execution

        from lmtrace.integrations.dspy._execution import wrap_execute  # which is built on this module

        yield execution, "execute", wrap_execute
        yield execution, "aexecute", wrap_execute
        yield from _notices.targets()
        return
    yield base, "_process_lm_response", seeing_argument
    if release >= (3, 3):
        yield base, "_finalize_lm_response", seeing_result


def wrap_call(original: Function, switch: Switch) -> Function:
    """A wrapper of ``BaseLM.__call__`` or ``acall``."""

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = begin(self, args, kwargs) if switch.is_on else None
        if call is None:
            return original(self, *args, **kwargs)
        with call:
            result = original(self, *args, **kwargs)
        call.returned(self, result)
        return result

    @functools.wraps(original)
    async def async_wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = begin(self, args, kwargs) if switch.is_on else None
        if call is None:
            return await original(self, *args, **kwargs)
        with call:
            result = await original(self, *args, **kwargs)
        call.returned(self, result)
        return result

    return async_wrapper if inspect.iscoroutinefunction(original) else wrapper


def begin(lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    try:
        outer = active_call()
        if outer is not None and outer.entry is None:
            return None
        request, secrets = _requests.read(lm, args, kwargs)
        session = _bound.over()
        if session is not None:
            session.serve(_NOBODY).complete(request, secrets)  # refuses
        return Call(_recorder.current().start(request, secrets), secrets, cache_for(lm, request))
    except Exception as error:
        if _serving.current() is not None:  # a call nobody can read must not reach the provider unseen
            raise
        failures.note("reading a call of DSPy", error)
        return None


def direct_call(lm: Any, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> Call | None:
    """Begins to record a call of an LM's ``forward``; None where it is part of another call."""
    return begin(lm, (), {"prompt": prompt, "messages": messages, **kwargs})


def current_call() -> Call | None:
    """The call that is being made here."""
    return _current.get()


def unserved() -> Call | None:
    """The call that is being made here, while somebody else may answer it and has not been asked yet."""
    call = _current.get()
    return call if call is not None and call.is_unserved else None


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
