"""DSPy's caches during a session, and during a call that the store's cache answers: they know nothing and learn nothing.

Otherwise an answer of an earlier process would be taken for the provider's, and one of a cassette would reach programs that
replay nothing. It is the class that is wrapped, so caches that a program configures meanwhile are set aside as well, and
the default one, with its files, is not made before somebody needs it. What may be given twice is decided by the session.
"""

from __future__ import annotations

import functools
from typing import Any

from lmtrace import _serving
from lmtrace.integrations._patching import Function, Switch
from lmtrace.integrations.dspy._calls import current_call


def wrap_get(original: Function, switch: Switch) -> Function:
    """A wrapper of ``Cache.get``."""

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        return None if _is_aside(switch) else original(self, *args, **kwargs)

    return wrapper


def wrap_put(original: Function, switch: Switch) -> Function:
    """A wrapper of ``Cache.put``."""

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        return None if _is_aside(switch) else original(self, *args, **kwargs)

    return wrapper


def _is_aside(switch: Switch) -> bool:
    if not switch.is_on:
        return False
    call = current_call()
    return _serving.current() is not None or (call is not None and call.is_cached)
