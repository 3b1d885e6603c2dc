"""DSPy's caches during a session, and during a call that the store's cache answers: they know nothing and learn nothing.

Otherwise an answer of an earlier process would be taken for the provider's, and one of a cassette would reach programs that
replay nothing. It is the class that is wrapped, so caches that a program configures meanwhile are set aside as well, and
the default one, with its files, is not made before somebody needs it. What may be given twice is decided by the session.
What ColBERTv2 fetched is in these caches too, and no answer of a model: it stays.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

from lmtrace import _serving
from lmtrace.integrations._patching import Function, Switch
from lmtrace.integrations.dspy._calls import current_call


def wrap_get(original: Function, switch: Switch) -> Function:
    """A wrapper of ``Cache.get``."""

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        return None if _is_aside(switch, args, kwargs) else original(self, *args, **kwargs)

    return wrapper


def wrap_put(original: Function, switch: Switch) -> Function:
    """A wrapper of ``Cache.put``."""

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        return None if _is_aside(switch, args, kwargs) else original(self, *args, **kwargs)

    return wrapper


_RETRIEVAL: Final = "dspy.dsp.colbertv2."
"""Functions whose results are no answers of a model: what they fetched is given again, as without a session."""


def _is_aside(switch: Switch, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    if not switch.is_on:
        return False
    request = args[0] if args else kwargs.get("request")
    if isinstance(request, Mapping) and str(request.get("_fn_identifier", "")).startswith(_RETRIEVAL):
        return False
    call = current_call()
    return _serving.current() is not None or (call is not None and call.is_cached)
