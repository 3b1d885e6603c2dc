"""The options that choose calls, the same in every command that reads, and the SQL they become.

Values go to DuckDB as parameters. An option that names something the store does not have is answered with what it has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from lmtrace._cli._times import Moment

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which calls a command is about."""

    model: str | None = None
    run: str | None = None
    trace: str | None = None
    scope: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    errors: bool = False

    def sql(self) -> tuple[str, list[Any]]:
        """A condition on the columns of `calls`, and its parameters."""
        terms: list[str] = []
        params: list[Any] = []
        for term, value in (
            ("(model = ? OR response_model = ? OR model LIKE '%/' || ?)", self.model),
            ("(run_id = ? OR run_name = ? OR starts_with(run_id, ?) OR ends_with(run_id, ?))", self.run),
            ("starts_with(trace_id, ?)", self.trace),
            ("(scope = ? OR starts_with(scope, ? || '.'))", self.scope),
            ("timestamp >= ?", self.since),
            ("timestamp < ?", self.until),
        ):
            if value is not None:
                terms.append(term)
                params += [value] * term.count("?")
        if self.errors:
            terms.append("error_type IS NOT NULL")
        return " AND ".join(terms) or "TRUE", params


def _completing(*columns: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """A shell completion that offers the values of `columns` in the store."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        from lmtrace._cli._store import known_values, opened

        try:
            with opened(ctx.params.get("store")) as history:
                return [name for name in known_values(history, columns) if name.startswith(incomplete)]
        except Exception:  # a traceback would end up in the user's prompt
            return []

    return complete


_CHOICES: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "-m",
        "--model",
        metavar="NAME",
        shell_complete=_completing("model"),
        help="Only calls of this model, with or without its provider.",
    ),
    click.option(
        "--run",
        metavar="RUN",
        shell_complete=_completing("run_name"),
        help="Only this run: id, the start or end of one, or a name.",
    ),
    click.option("--trace", metavar="ID", help="Only this trace: its id or the start of one."),
    click.option(
        "--scope", metavar="PATH", shell_complete=_completing("scope"), help="Only calls from this part of the program."
    ),
    click.option("--since", type=Moment(), help="Only from then on: 30m, 2h, yesterday, 2026-11-21."),
    click.option("--until", type=Moment(), help="Only before then."),
    click.option("--errors", is_flag=True, help="Only calls that failed."),
)


def filter_options(function: Function) -> Function:
    """Add the options of `Filters`; the function gets them as ``filters``."""

    def wrapper(*args: Any, **options: Any) -> Any:
        names = Filters.__dataclass_fields__
        filters = Filters(**{name: options.pop(name) for name in names if name in options})
        return function(*args, filters=filters, **options)

    wrapper.__name__, wrapper.__doc__ = function.__name__, function.__doc__
    wrapper.__dict__.update(function.__dict__)
    for choice in reversed(_CHOICES):
        wrapper = choice(wrapper)
    return wrapper  # type: ignore[return-value]


def store_option(function: Function) -> Function:
    """Add ``--store``."""
    option = click.option(
        "--store",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="The store to read, instead of the project's.",
    )
    return option(function)


def json_option(function: Function) -> Function:
    """Add ``--json``."""
    return click.option("as_json", "--json", is_flag=True, help="JSON lines on stdout, notes on stderr.")(function)


def limit_option(default: int, what: str = "calls") -> Callable[[Function], Function]:
    """Add ``-n``, ``--limit``."""
    return click.option(
        "-n",
        "--limit",
        type=click.IntRange(min=0),
        default=default,
        show_default=True,
        help=f"At most so many {what}; 0 for all.",
    )
