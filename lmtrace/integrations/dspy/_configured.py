"""``dspy.configure(lm=lmtrace.LM(…))``: DSPy takes nothing that is no `BaseLM`, so it is given the one that stands for it."""

from __future__ import annotations

import functools
from typing import Any

from lmtrace._lm import LM
from lmtrace.integrations._patching import Function, Switch


def wrap_settings(original: Function, switch: Switch) -> Function:
    """A wrapper of ``dspy.configure`` or ``dspy.context``."""

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if switch.is_on and isinstance(kwargs.get("lm"), LM):
            kwargs["lm"] = kwargs["lm"].for_dspy()
        return original(*args, **kwargs)

    return wrapper
