"""Values as a person reads them.

Text of models and of programs is made `visible`. Money keeps two significant digits at any scale, and what is not known
is never shown as zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from lmtrace._visible import visible

UNKNOWN = "unknown"


def one_line(text: str | None, limit: int = 400) -> str:
    """`text` visible, on one line, white space collapsed and cut at `limit` characters."""
    if not text:
        return ""
    line = " ".join(visible(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def money(dollars: float | None) -> str:
    """US dollars: cents from one dollar up, two significant digits below, `unknown` for None."""
    if dollars is None:
        return UNKNOWN
    if dollars == 0:
        return "$0"
    if abs(dollars) >= 0.995:  # would round to 1.00
        return f"${dollars:,.2f}"
    rounded = float(f"{dollars:.1e}")
    digits = 1 - math.floor(math.log10(abs(rounded)))
    return f"${dollars:.{digits}f}"


def total_money(known: float | None, unknown: int) -> str:
    """A sum and how many calls it leaves out because their price is not known."""
    if not unknown:
        return money(known or 0.0)
    return f"{money(known)} + {unknown:,} {UNKNOWN}" if known else UNKNOWN


def count(number: int | None) -> str:
    """A count in at most five characters: 155, 9.7k, 1.2M; `-` for None."""
    if number is None:
        return "-"
    if number < 1_000:
        return str(number)
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size * 0.9995:
            short = number / size
            return f"{short:.1f}{unit}" if short < 99.95 else f"{short:.0f}{unit}"
    return str(number)


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as options take them: ``1,3-5``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def tokens(given: int | None, generated: int | None) -> str:
    """Input and output tokens, ``155→17``."""
    return f"{count(given)}→{count(generated)}" if given is not None or generated is not None else "-"


def duration(milliseconds: float | None) -> str:
    """A stretch of time: 0.3 ms, 312 ms, 6.2 s, 3 m 05 s, 2 h 10 m."""
    if milliseconds is None:
        return "-"
    if milliseconds < 999.5:
        return f"{milliseconds:.1f} ms" if milliseconds < 9.95 else f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} m"


def size(number: int) -> str:
    """A number of bytes: 512 B, 16.0 MB."""
    units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")]
    return next((f"{number / scale:.1f} {unit}" for scale, unit in units if number >= scale * 0.9995), f"{number} B")


def moment(when: datetime | None, *, now: datetime | None = None) -> str:
    """A local time, with the date unless it is today's."""
    if when is None:
        return "-"
    local = when.astimezone()
    today = (now or datetime.now(UTC)).astimezone().date()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%Y-%m-%d %H:%M:%S}"


def brief_moment(when: datetime | None, *, now: datetime | None = None) -> str:
    """A local time in a table: ``09:15:00`` today, ``11-21 09:15`` this year, else the date."""
    if when is None:
        return "-"
    local, today = when.astimezone(), (now or datetime.now(UTC)).astimezone().date()
    if local.date() == today:
        return f"{local:%H:%M:%S}"
    return f"{local:%m-%d %H:%M}" if local.year == today.year else f"{local:%Y-%m-%d}"


SHORTEST = 4
"""Characters of an id that are enough to look for it."""

_LAST = re.compile(r"last(?:~(\d+))?")


def runs_back(reference: str) -> int | None:
    """How many runs ``last`` or ``last~2`` lies before the last one; None for any other name."""
    last = _LAST.fullmatch(reference)
    return int(last[1] or 0) if last else None


def short_id(uuid: str | None) -> str:
    """The end of an id: a uuid7 begins with the time, so ids of one minute differ only at their end."""
    return uuid[-8:] if uuid else "-"


def plural(number: int, noun: str) -> str:
    """``1 call``, ``2 calls``, ``3 entries``."""
    ending = (
        noun if number == 1 else f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
    )
    return f"{number:,} {ending}"


def message_text(content: Any) -> str:
    """The text of a message's content: itself, or its text parts, with other parts named in brackets."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(part for part in map(_part_text, content) if part)
    return _part_text(content)


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return str(part)
    for key in ("text", "input_text", "output_text", "refusal", "thinking", "content"):
        if isinstance(part.get(key), str):
            return str(part[key])
    return f"[{part.get('type', 'part')}]"


def tool_call(item: Any) -> str:
    """One tool call as ``name(arguments)``, whichever of the usual shapes it has."""
    if not isinstance(item, dict):
        return str(item)
    function = item["function"] if isinstance(item.get("function"), dict) else item
    return f"{function.get('name') or 'tool'}({function.get('arguments', function.get('args')) or ''})"
