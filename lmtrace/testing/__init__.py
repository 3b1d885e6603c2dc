"""Helpers for the tests of programs that use lmtrace, and of lmtrace itself.

`LoopbackProvider` is a provider without a model: real HTTP on 127.0.0.1, in the wire formats of OpenAI, Anthropic, Gemini
and Ollama, with answers you script. ``python -m lmtrace.testing`` runs one until Ctrl-C.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmtrace.testing._provider._loopback import LoopbackProvider
    from lmtrace.testing._provider._reply import Failure, Reply
    from lmtrace.testing._provider._request import ReceivedRequest

__all__ = ["Failure", "LoopbackProvider", "ReceivedRequest", "Reply"]

_HOME = {
    "Failure": "lmtrace.testing._provider._reply",
    "LoopbackProvider": "lmtrace.testing._provider._loopback",
    "ReceivedRequest": "lmtrace.testing._provider._request",
    "Reply": "lmtrace.testing._provider._reply",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
