"""The part of a traceback that a user can do something about."""

from __future__ import annotations

import sys
from types import FrameType, TracebackType
from typing import Final

_OURS: Final = ("lmtrace", "lmtrace_replay", "litellm", "dspy", "pluggy", "pytest", "_pytest")


def own_part(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback down to the last line of the user's own, without the libraries it has called."""
    last, item = None, traceback
    while item is not None:
        last = item if _is_own(item.tb_frame) else last
        item = item.tb_next
    if last is not None:
        last.tb_next = None
    return traceback


def _is_own(frame: FrameType) -> bool:
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    is_library = package in _OURS or package in sys.stdlib_module_names
    return not is_library and "site-packages" not in frame.f_code.co_filename
