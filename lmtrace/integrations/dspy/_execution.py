"""DSPy 3.4's one execution path, through which calls of every engine go: where answers are seen, and where a served one enters."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from lmtrace._data import LMResponse
from lmtrace.integrations._patching import Function, Switch
from lmtrace.integrations.dspy import _answers
from lmtrace.integrations.dspy._calls import Call, current_call, direct_call
from lmtrace.integrations.dspy._native import call_result
from lmtrace.integrations.dspy._served import Original, aask, ask
from lmtrace.integrations.dspy._store_cache import as_hit


def wrap_execute(original: Function, switch: Switch) -> Function:
    """A wrapper of ``dspy.clients.execution.execute`` or ``aexecute``."""

    @functools.wraps(original)
    def wrapper(lm: Any, prepared: Any) -> Any:
        call = current_call() if switch.is_on else None
        if call is None:
            return original(lm, prepared)
        if not call.is_unserved:
            result = call.seen = original(lm, prepared)
            return result
        asked = Original(lambda: original(lm, prepared), functools.partial(_read, lm))
        result = call.seen = ask(call, asked, functools.partial(_result, lm, prepared, call))
        return result

    @functools.wraps(original)
    async def async_wrapper(lm: Any, prepared: Any) -> Any:
        call = current_call() if switch.is_on else None
        if call is None:
            return await original(lm, prepared)
        if not call.is_unserved:
            result = call.seen = await original(lm, prepared)
            return result
        asked = Original(lambda: original(lm, prepared), functools.partial(_read, lm))
        result = call.seen = await aask(call, asked, functools.partial(_result, lm, prepared, call))
        return result

    return async_wrapper if inspect.iscoroutinefunction(original) else wrapper


def _result(lm: Any, prepared: Any, call: Call, response: LMResponse) -> Any:
    result = call_result(lm, prepared, call.record.request, response)
    return as_hit(response, result) if call.is_cached else result


def wrap_forward(original: Function, switch: Switch) -> Function:
    """A wrapper of ``LM.forward`` or ``aforward``, called by a program: a public call of its own."""

    @functools.wraps(original)
    def wrapper(self: Any, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        call = direct_call(self, prompt, messages, kwargs) if switch.is_on else None
        if call is None:
            return original(self, prompt, messages, **kwargs)
        with call:
            result = original(self, prompt, messages, **kwargs)
        call.returned(self, result)
        return result

    @functools.wraps(original)
    async def async_wrapper(self: Any, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        call = direct_call(self, prompt, messages, kwargs) if switch.is_on else None
        if call is None:
            return await original(self, prompt, messages, **kwargs)
        with call:
            result = await original(self, prompt, messages, **kwargs)
        call.returned(self, result)
        return result

    return async_wrapper if inspect.iscoroutinefunction(original) else wrapper


def _read(lm: Any, result: Any) -> LMResponse:
    return _answers.read(lm, result, result.outputs)[0]
