"""Typed requests in the shape every other call has: DSPy 3.3's own, and those of lm15 in 3.4.

What that shape has no words for is kept as it was given: an engine of the program's own may understand it, and what DSPy is
going to refuse is a call, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_NOT_PARAMETERS: Final = frozenset({"model", "messages", "input", "prompt"})

Shape = tuple[Any, dict[str, Any]]
"""Messages and parameters."""


def read(lm: Any, items: tuple[Any, ...], parameters: Mapping[str, Any]) -> Shape:
    """The messages and parameters that are in what was given by position or as ``request=``.

    Args:
        lm: Who is asked.
        items: A typed request, or what DSPy makes one of.
        parameters: Those of the LM and of the call.
    """
    try:
        from dspy.lm15 import Request
    except ImportError:
        return _of_items(lm, items, parameters)
    return _of_request(lm, items[0]) if isinstance(items[0], Request) else _as_given(items)


def _of_request(lm: Any, request: Any) -> Shape:
    from dspy.clients.lm15_boundary import history_messages, request_kwargs

    try:
        given = request_kwargs(request, lm.model_type)
    except Exception:  # a ValueError of DSPy or an error of lm15: OpenAI's dialect cannot say it
        given = _own_form(request)
    return history_messages(request), {name: value for name, value in given.items() if name not in _NOT_PARAMETERS}


def _own_form(request: Any) -> dict[str, Any]:
    from dspy._vendor.lm15.serde import request_to_dict

    data = request_to_dict(request)
    return {"tools": data.get("tools"), **data.get("config", {})}


def _of_items(lm: Any, items: tuple[Any, ...], parameters: Mapping[str, Any]) -> Shape:
    try:
        from dspy.clients.openai_format import to_openai_chat_request
        from dspy.core.types import LMRequest
    except ImportError:  # DSPy 3.2 takes anything for a prompt, a list of contents as well
        return _as_given(items)
    try:
        is_request = isinstance(items[0], LMRequest)
        request = items[0] if is_request else LMRequest.from_call(model=lm.model, items=items, **parameters)
        data = to_openai_chat_request(request)
    except Exception:  # DSPy refuses it in its own words
        return _as_given(items)
    return data.pop("messages", None), {name: value for name, value in data.items() if name not in _NOT_PARAMETERS}


def _as_given(items: tuple[Any, ...]) -> Shape:
    return [{"role": "user", "content": item} for item in items], {}
