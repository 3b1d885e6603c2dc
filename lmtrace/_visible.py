"""Texts of models and programs as a terminal may have them.

Such text is untrusted: a terminal would obey its escape sequences and reorder its lines, so every such character is shown
as its escape and none is sent.
"""

from __future__ import annotations

import re

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tab and line feed, DEL, C1
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # direction, separators, invisible
    "\ud800-\udfff\U000e0000-\U000e007f]"  # surrogates, tags
)


def visible(text: str) -> str:
    """`text` with every control and direction character as its Python escape; tabs and line feeds stay."""
    return _HIDDEN.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def json_safe(text: str) -> str:
    r"""The JSON document `text` with the same characters as ``\uXXXX``, so that it says the same and is harmless."""

    def escape(match: re.Match[str]) -> str:
        units = match.group().encode("utf-16-be", "surrogatepass").hex()
        return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))

    return _HIDDEN.sub(escape, text)
