"""DSPy's thread pools: what runs in them belongs to the trace, the run, the modules and the session of who started them.

DSPy carries its own settings into the threads, and OpenTelemetry's context not at all.
"""

from __future__ import annotations

import functools
from typing import Any

from opentelemetry import context

from lmtrace import _serving
from lmtrace._scope import Carried
from lmtrace.integrations._patching import Function, Switch
from lmtrace.integrations.dspy import _bound, _evaluations, _trials


def wrap_execute(original: Function, switch: Switch) -> Function:
    """A wrapper of ``ParallelExecutor.execute``."""

    @functools.wraps(original)
    def wrapper(self: Any, function: Function, data: Any, *args: Any, **kwargs: Any) -> Any:
        if not switch.is_on:
            return original(self, function, data, *args, **kwargs)
        trials = _trials.of(data)
        if trials is None:
            return original(self, _carried(_evaluations.stepping(function, data)), data, *args, **kwargs)
        with trials:
            return original(self, _carried(trials.stepping(function)), data, *args, **kwargs)

    return wrapper


def _carried(function: Function) -> Function:
    here, carried, session = context.get_current(), Carried(), _serving.current()

    @functools.wraps(function, updated=())
    def inside(*args: Any, **kwargs: Any) -> Any:
        token = context.attach(here)
        try:
            with carried.entered(), _bound.task_of(session, _rearrange):
                return function(*args, **kwargs)
        finally:
            context.detach(token)

    return inside


def _rearrange() -> None:
    from lmtrace.integrations.dspy import _install

    _install.rearrange()
