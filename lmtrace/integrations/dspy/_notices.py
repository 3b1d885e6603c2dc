"""What DSPy 3.4 says of calls that 3.5 takes away is said of the program's line, as it is without recording.

DSPy looks for the first frame that is not its own; that would be a wrapper of ours, and Python shows a deprecation only where
the program's own line is to blame.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

from lmtrace.integrations._patching import Function, Switch

_BETWEEN: Final = frozenset({"dspy", "lmtrace", "lmtrace_replay"})
"""Packages whose frames stand between a program and what is said of its call."""


def targets() -> Iterator[tuple[Any, str, Any]]:
    """The function to wrap, where this version of DSPy has it."""
    try:
        from dspy.clients import _deprecation
    except ImportError:
        return
    if hasattr(_deprecation, "_warn"):
        yield _deprecation, "_warn", wrap_warn


def wrap_warn(original: Function, switch: Switch) -> Function:
    """What takes the place of ``dspy.clients._deprecation._warn``, for good: a retired one has to pass over our frames too."""

    @functools.wraps(original)
    def warn(message: str) -> None:
        warnings.warn(message, DeprecationWarning, stacklevel=2 + _between(sys._getframe(1)))

    return warn


def _between(frame: FrameType | None) -> int:
    """How many frames there are from this one to the program's."""
    count = 0
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _BETWEEN:
        count += 1
        frame = frame.f_back
    return count
