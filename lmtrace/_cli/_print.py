"""Tables, trees and JSON lines on stdout, notes on stderr.

Every text goes to rich as a `Text`, never as markup, and through `visible` first. In a pipe the same table comes without
colours and as wide as it needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from lmtrace._cli._text import json_safe, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

PIPE_WIDTH = 160
"""Columns of a table that no terminal limits."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    right: bool = False
    share: int = 0
    """0: as wide as its content; more: its share of what is left."""
    style: str = ""


def console(*, err: bool = False) -> Console:
    """A console for text that is not markup."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def text(content: str, style: str = "") -> Text:
    """`content` as something rich shows and does not interpret."""
    from rich.text import Text

    return Text(visible(content), style=style)


def print_table(columns: Sequence[Column], lines: Iterable[Sequence[str | Text]]) -> None:
    """A table with a header and no frame."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            ratio=column.share or None,
            style=column.style,
            no_wrap=True,
            overflow="ellipsis",
        )
    for line in lines:
        table.add_row(*(text(cell) if isinstance(cell, str) else cell for cell in line))
    printer = console()
    with printer.capture() as capture:
        printer.print(table)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def print_json(lines: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object per line."""
    import orjson

    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z
    for line in lines:
        click.echo(json_safe(orjson.dumps(line, default=_json_value, option=options).decode()))


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value)


def note(message: str) -> None:
    """A sentence on stderr that is not part of the answer."""
    click.echo(visible(message), err=True)
