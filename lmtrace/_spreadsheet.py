"""Texts that a spreadsheet shows instead of running.

A cell that begins like a formula is run when the CSV file is opened, and texts come from models and their users.
"""

from __future__ import annotations

from typing import Any, Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def inert(value: Any) -> Any:
    """`value`, with an apostrophe before a text that would be run as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
