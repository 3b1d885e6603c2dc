"""Moments as people type them: ``2h``, ``yesterday``, ``2026-11-21``, ``2026-11-21T09:15``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)(?:\s*ago)?")
_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_moment(text: str, now: datetime | None = None) -> datetime:
    """The moment `text` means, in UTC; a date is its first instant here.

    Raises:
        ValueError: `text` is none of the known forms.
    """
    local = (now or datetime.now(UTC)).astimezone()
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    word = text.strip().lower()
    ago = _AGO.fullmatch(word)
    if word == "now":
        moment = local
    elif word == "today":
        moment = midnight
    elif word == "yesterday":
        moment = midnight - timedelta(days=1)
    elif ago:
        moment = local - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
    else:
        moment = datetime.fromisoformat(text.strip())
    return moment.astimezone(UTC)


class Moment(click.ParamType[datetime]):
    """An option that is a moment."""

    name = "when"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return parse_moment(str(value))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time; write 30m, 2h, 7d, today, yesterday, 2026-11-21 or 2026-11-21T09:15")
