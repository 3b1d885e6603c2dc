"""DSPy's thread pools: what runs in them belongs to the trace, the run and the modules of the code that started them.

DSPy carries its own settings into the threads, and OpenTelemetry's context not at all.
"""

from __future__ import annotations

import functools
from typing import Any

from opentelemetry import context

from lmtrace._scope import Carried
from lmtrace.integrations._patching import Function, Switch


def wrap_execute(original: Function, switch: Switch) -> Function:
    """A wrapper of ``ParallelExecutor.execute``."""

    @functools.wraps(original)
    def wrapper(self: Any, function: Function, *args: Any, **kwargs: Any) -> Any:
        return original(self, _carried(function) if switch.is_on else function, *args, **kwargs)

    return wrapper


def _carried(function: Function) -> Function:
    here, carried = context.get_current(), Carried()

    @functools.wraps(function, updated=())
    def inside(*args: Any, **kwargs: Any) -> Any:
        token = context.attach(here)
        try:
            with carried.entered():
                return function(*args, **kwargs)
        finally:
            context.detach(token)

    return inside
