"""Which DSPy is there, and whether its insides are those this package was written for."""

from __future__ import annotations

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


def _dotted(parts: tuple[int, int]) -> str:
    return ".".join(map(str, parts))
