"""Texts that differ from one execution to the next: dates, uuids, the folders of tests."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable
from typing import Final

_MONTH: Final = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sep(?:t(?:ember)?)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
DATES: Final = re.compile(
    r"\b\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?(?!\w)"
    rf"|\b{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}\b|\b\d{{1,2}}(?:st|nd|rd|th)? {_MONTH},? \d{{4}}\b"
)
UUIDS: Final = re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b")
_FOLDERS: Final = re.compile(r"(?:[A-Za-z]:)?[\w./\\~-]*[/\\]pytest-(?:of-[^/\\\s]+[/\\]pytest-)?\d+[/\\]\w+")


def dates(text: str) -> str:
    """`text` with ``<date>`` for every date and time: ISO 8601, and English with the month's name."""
    return DATES.sub("<date>", text)


def uuids(text: str) -> str:
    """`text` with ``<uuid>`` for every uuid."""
    return UUIDS.sub("<uuid>", text)


def folders(text: str) -> str:
    """`text` with ``<folder>`` for every `tmp_path` of pytest."""
    return _FOLDERS.sub("<folder>", text)


NORMALISERS: Final[dict[str, Callable[[str], str]]] = {"dates": dates, "uuids": uuids, "folders": folders}
"""By the name they have in settings."""


def is_name(name: str) -> bool:
    """Whether `name` may be that of a normaliser, as far as can be told without importing it."""
    return name in NORMALISERS or (":" in name and all(name.partition(":")))


def normaliser(name: str) -> Callable[[str], str]:
    """The normaliser of that name, else the function at ``package.module:function``.

    Raises:
        ValueError: there is neither.
    """
    if name in NORMALISERS:
        return NORMALISERS[name]
    try:
        found = pkgutil.resolve_name(name) if ":" in name else None
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"the normaliser {name!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ValueError(f"{name!r} is no normaliser: name one of {', '.join(NORMALISERS)}, or package.module:function")
    return found  # type: ignore[no-any-return]
