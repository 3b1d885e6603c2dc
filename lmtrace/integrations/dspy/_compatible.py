"""Where a served answer enters DSPy's older paths: the function of LiteLLM that an LM calls, and ``forward`` of a custom LM.

DSPy 3.2 and 3.3 ask LiteLLM for everything but custom LMs. ``LM._get_cached_completion_fn`` is the one place through which
each of its six kinds of call passes, above the cache and below DSPy's own handling of errors, usage and truncation.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from lmtrace._data import LMResponse
from lmtrace.integrations._patching import Function, Switch
from lmtrace.integrations.dspy import _answers
from lmtrace.integrations.dspy._calls import Call, unserved
from lmtrace.integrations.dspy._portable import litellm_answer
from lmtrace.integrations.dspy._served import Original, aask, ask
from lmtrace.integrations.dspy._store_cache import as_hit
from lmtrace.integrations.litellm._translate import is_answer, readable


def wrap_completion_choice(original: Function, switch: Switch) -> Function:
    """A wrapper of ``LM._get_cached_completion_fn``: the function it chooses is asked only if nothing else answers."""

    @functools.wraps(original)
    def wrapper(self: Any, completion_fn: Function, cache: Any) -> Any:
        chosen, rest = original(self, completion_fn, cache)
        call = unserved() if switch.is_on else None
        if call is None:
            return chosen, rest
        make = _async_function if inspect.iscoroutinefunction(completion_fn) else _function
        return make(chosen, call), rest

    return wrapper


def _function(chosen: Function, call: Any) -> Function:
    def served(**kwargs: Any) -> Any:
        return ask(call, Original(lambda: chosen(**kwargs), readable), _giver(call))

    return served


def _async_function(chosen: Function, call: Any) -> Function:
    async def served(**kwargs: Any) -> Any:
        return await aask(call, Original(lambda: chosen(**kwargs), readable), _giver(call))

    return served


def _giver(call: Call) -> Callable[[LMResponse], Any]:
    def give(response: LMResponse) -> Any:
        answer = litellm_answer(response, call.record.request)
        return as_hit(response, answer) if call.is_cached else answer

    return give


def wrap_forward(original: Function, switch: Switch) -> Function:
    """A wrapper of ``forward`` or ``aforward`` of a custom LM."""

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = unserved() if switch.is_on else None
        if call is None:
            return original(self, *args, **kwargs)
        asked = Original(lambda: original(self, *args, **kwargs), functools.partial(_read_custom, self))
        return ask(call, asked, functools.partial(_custom_answer, self, call, args))

    @functools.wraps(original)
    async def async_wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = unserved() if switch.is_on else None
        if call is None:
            return await original(self, *args, **kwargs)
        asked = Original(lambda: original(self, *args, **kwargs), functools.partial(_read_custom, self))
        return await aask(call, asked, functools.partial(_custom_answer, self, call, args))

    return async_wrapper if inspect.iscoroutinefunction(original) else wrapper


def _read_custom(lm: Any, result: Any) -> LMResponse:
    outputs = None if is_answer(result) or not hasattr(result, "choices") else lm._process_completion(result, lm.kwargs)
    return _answers.read(lm, result, outputs)[0]


def _custom_answer(lm: Any, call: Any, args: tuple[Any, ...], response: LMResponse) -> Any:
    """What a custom LM returns: an object of OpenAI's shape, or DSPy 3.3's own answer to its own request."""
    answer = litellm_answer(response, call.record.request)
    if getattr(lm, "forward_contract", "legacy") != "typed_lm":
        return answer
    from dspy.clients.openai_format import completion_to_lm_response

    return completion_to_lm_response(answer, args[0])
