"""Helpers for the tests of programs that use lmtrace, and of lmtrace itself.

`LoopbackProvider` is a provider without a model: real HTTP on 127.0.0.1, in the wire formats of OpenAI, Anthropic, Gemini
and Ollama, with answers you script. ``python -m lmtrace.testing`` runs one until Ctrl-C.

`capture` records what happens in a block in memory, with a clock and ids that are the same in every run.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmtrace.testing._capture import Captured, capture, counting_ids, fixed_clock
    from lmtrace.testing._provider._loopback import LoopbackProvider
    from lmtrace.testing._provider._reply import Failure, Reply
    from lmtrace.testing._provider._request import ReceivedRequest

__all__ = [
    "Captured",
    "Failure",
    "LoopbackProvider",
    "ReceivedRequest",
    "Reply",
    "capture",
    "counting_ids",
    "fixed_clock",
]

_HOME = {
    "Captured": "lmtrace.testing._capture",
    "Failure": "lmtrace.testing._provider._reply",
    "LoopbackProvider": "lmtrace.testing._provider._loopback",
    "ReceivedRequest": "lmtrace.testing._provider._request",
    "Reply": "lmtrace.testing._provider._reply",
    "capture": "lmtrace.testing._capture",
    "counting_ids": "lmtrace.testing._capture",
    "fixed_clock": "lmtrace.testing._capture",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
