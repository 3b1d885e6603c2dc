"""How a command ends when it cannot do what was asked: a sentence on stderr that says what to do, and an exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import click

from lmtrace._visible import visible


class Failure(click.ClickException):
    """The end of a command; the message may hold text of a model and is made visible."""

    def __init__(self, message: str) -> None:
        super().__init__(visible(message))


class NotFoundFailure(Failure):
    """Nothing there matches."""

    exit_code = 1


class UsageFailure(Failure):
    """The arguments make no sense."""

    exit_code = 2


class EnvironmentFailure(Failure):
    """Something outside the command must change first."""

    exit_code = 3


def nearest(text: str, known: Iterable[str], count: int = 3) -> str:
    """``; nearest: a, b`` for the known names most like `text`, or an empty text when there is none."""
    names = {name.lower(): name for name in sorted(known)}
    close = difflib.get_close_matches(text.lower(), names, count, 0.4)
    close += [name for name in names if text.lower() in name and name not in close]
    return "; nearest: " + ", ".join(names[name] for name in close[:count]) if close else ""


@contextmanager
def settings_errors() -> Iterator[None]:
    """Turn an invalid setting in the environment or a file into a failure with exit code 3."""
    from lmtrace._errors import SettingsError

    try:
        yield
    except SettingsError as error:
        raise EnvironmentFailure(str(error)) from None
