"""Which DSPy is there, and whether its insides are those this package was written for."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Final

from lmtrace._errors import LMTraceError

OLDEST: Final = (3, 2)
NEWEST: Final = (3, 4)


class UnsupportedDSPyError(LMTraceError):
    """The installed DSPy is not one whose calls can be recorded."""


def release_of(module: ModuleType) -> tuple[int, int] | None:
    """Major and minor version of a module named ``dspy``; None where it is somebody's own that only has the name.

    Raises:
        UnsupportedDSPyError: it is older or newer than what is supported.
    """
    text = getattr(module, "__version__", None)
    if not isinstance(text, str) or not hasattr(module, "BaseLM"):
        return None
    major, minor = (int(part) for part in text.split(".")[:2])
    if not OLDEST <= (major, minor) <= NEWEST:
        raise UnsupportedDSPyError(
            f"DSPy {text} is not supported: lmtrace records {_dotted(OLDEST)} to {_dotted(NEWEST)}. "
            "LM calls that reach LiteLLM are recorded all the same; the program's own structure is not"
        )
    return major, minor


def require() -> None:
    """Import DSPy.

    Raises:
        UnsupportedDSPyError: it is not there, or in a version that is not supported.
    """
    try:
        module = importlib.import_module("dspy")
    except ImportError as error:
        raise UnsupportedDSPyError(
            f"DSPy cannot be imported ({error}). Install it: pip install 'lmtrace[dspy]'"
        ) from error
    if release_of(module) is None:
        raise UnsupportedDSPyError(f"{module.__file__} is not DSPy, although it has the name")


def _dotted(parts: tuple[int, int]) -> str:
    return ".".join(map(str, parts))
