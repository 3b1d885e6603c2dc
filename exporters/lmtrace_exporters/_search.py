"""Look for a text in the history: the condition that DuckDB checks, and which rows need not be read for it.

The condition alone decides what is found. What the filters of segments say only leaves out rows that it would refuse.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lmtrace_exporters._catalog import Segment
from lmtrace_exporters._filter_file import load
from lmtrace_exporters._grams import runs
from lmtrace_exporters._layout import Layout

PLACES: Final[dict[str, tuple[str, ...]]] = {
    "prompt": ("messages::VARCHAR", "prompt"),
    "answer": ("outputs::VARCHAR",),
    "error": ("error_type", "error_message"),
}
"""Where a text can be, and the columns that is."""

Rows = list[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A text that is looked for."""

    text: str
    places: tuple[str, ...]
    """Keys of `PLACES`."""
    regex: bool
    """Whether the text is a regular expression."""
    case: bool
    """Whether upper and lower case differ."""

    def condition(self) -> tuple[str, list[str]]:
        """Return the SQL for calls that hold the text, and its parameters."""
        columns = [column for place in self.places for column in PLACES[place]]
        if self.case and not self.regex:
            terms = [f"contains({column}, ?)" for column in columns]
        else:  # without regard to case a regular expression is faster than lower(), and much faster than ILIKE
            flags = ("" if self.case else "i") + ("" if self.regex else "l")
            terms = [f"regexp_matches({column}, ?, '{flags}')" for column in columns]
        return f"({' OR '.join(terms)})", [self._as_stored(column) for column in columns]

    def alternatives(self) -> list[list[bytes]]:
        """Return runs of which every row that fits has all of one alternative; none when nothing can be said."""
        if self.regex:
            return []
        stored = dict.fromkeys(self.condition()[1])
        return [runs(text, case=self.case) for text in stored]

    def _as_stored(self, column: str) -> str:
        """Return the text as it stands inside a JSON document; a regular expression is taken as it is."""
        in_json = column.endswith("::VARCHAR") and not self.regex
        return json.dumps(self.text, ensure_ascii=False)[1:-1] if in_json else self.text


class Sieve:
    """Which rows of a segment may hold a text."""

    def __init__(self, layout: Layout, wanted: Wanted) -> None:
        self._layout, self._alternatives = layout, wanted.alternatives()
        self._says = bool(self._alternatives) and all(map(_is_telling, self._alternatives))

    def rows_of(self, segment: Segment) -> Rows | None:
        """Return the first and last numbers of rows to read, or None for all of them."""
        found = load(self._layout, segment) if self._says else None
        return found.rows_for(self._alternatives) if found is not None else None


def _is_telling(runs_: Sequence[bytes]) -> bool:
    return any(len(run) >= 3 for run in runs_)
