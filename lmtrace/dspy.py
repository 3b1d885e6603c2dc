"""What DSPy programs get from lmtrace beside `lmtrace.instrument()`. DSPy is imported when one of these is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmtrace.integrations.dspy._examples import examples
    from lmtrace.integrations.dspy._lm import LM

__all__ = ["LM", "examples"]

_HOMES = {"LM": "_lm", "examples": "_examples"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lmtrace.dspy' has no attribute {name!r}")
    from importlib import import_module

    from lmtrace.integrations.dspy._versions import require

    require()
    value = getattr(import_module(f"lmtrace.integrations.dspy.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
