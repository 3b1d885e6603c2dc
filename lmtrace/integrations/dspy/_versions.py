"""Which DSPy is there, and whether its insides are those this package was written for."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

from lmtrace._errors import LMTraceError

OLDEST: Final = (3, 2)
NEWEST: Final = (3, 4)


class UnsupportedDSPyError(LMTraceError):
    """The installed DSPy is not one whose calls can be recorded."""


def installed() -> tuple[int, int]:
    """Major and minor version of the installed DSPy.

    Raises:
        UnsupportedDSPyError: it is older or newer than what is supported, or not installed as a package.
    """
    try:
        text = version("dspy")
    except PackageNotFoundError:
        raise UnsupportedDSPyError(
            "the module dspy belongs to no installed package, so its version is unknown"
        ) from None
    major, minor = (int(part) for part in text.split(".")[:2])
    if not OLDEST <= (major, minor) <= NEWEST:
        raise UnsupportedDSPyError(
            f"DSPy {text} is not supported: lmtrace records {_dotted(OLDEST)} to {_dotted(NEWEST)}. "
            "LM calls that reach LiteLLM are recorded all the same; the program's own structure is not"
        )
    return major, minor


def _dotted(parts: tuple[int, int]) -> str:
    return ".".join(map(str, parts))
