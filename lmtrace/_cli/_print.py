"""Tables, trees and JSON lines on stdout, notes on stderr.

Every text goes to rich as a `Text`, never as markup, and through `visible` first. In a pipe the same table comes without
colours and as wide as it needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from lmtrace._visible import json_safe, visible

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
    flexible: bool = False
    """Whether its texts are cut when the line is too short; other columns are always whole."""
    optional: int = 0
    """0: always there; more: left out when the line is too short, the highest first."""
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


GAP = 2
LEAST = 16
"""Columns of the terminal that a flexible column should have at least."""


def print_table(columns: Sequence[Column], lines: Iterable[Sequence[str | Text]]) -> None:
    """A table with a header and no frame. Ids and figures are never cut: optional columns go, flexible ones shrink."""
    cells = [[text(cell) if isinstance(cell, str) else cell for cell in line] for line in lines]
    printer = console()
    kept, widths = _layout(columns, cells, printer.width)
    header = [text(column.title, "bold") for column in columns]
    with printer.capture() as capture:
        for line in [header, *cells]:
            shown = [_cell(line[index], columns[index], widths[index]) for index in kept]
            printer.print(text(" " * GAP).join(shown), soft_wrap=True)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def print_rows(columns: Sequence[tuple[Column, Callable[[Any], str | Text]]], rows: Iterable[Any]) -> None:
    """A table with a line for each row: the columns, each with what it shows of a row."""
    print_table([column for column, _ in columns], [[cell(row) for _, cell in columns] for row in rows])


def _layout(columns: Sequence[Column], cells: Sequence[Sequence[Text]], width: int) -> tuple[list[int], dict[int, int]]:
    """Which columns are shown, and how wide."""
    needed = {
        index: max([len(column.title), *(line[index].cell_len for line in cells)])
        for index, column in enumerate(columns)
    }
    kept = list(needed)
    for index in sorted((i for i in kept if columns[i].optional), key=lambda i: -columns[i].optional):
        least = sum(min(needed[i], LEAST) if columns[i].flexible else needed[i] for i in kept)
        if least + GAP * (len(kept) - 1) > width:
            kept.remove(index)
    room = width - GAP * (len(kept) - 1) - sum(needed[i] for i in kept if not columns[i].flexible)
    flexible = sorted((i for i in kept if columns[i].flexible), key=lambda i: needed[i])
    for position, index in enumerate(flexible):  # the shortest first: what it leaves over goes to the longer ones
        needed[index] = min(needed[index], max(room // (len(flexible) - position), len(columns[index].title)))
        room -= needed[index]
    return kept, needed


def _cell(content: Text, column: Column, width: int) -> Text:
    cell = content.copy()
    if column.style and not cell.style:
        cell.style = column.style
    cell.truncate(width, overflow="ellipsis")
    cell.align("right" if column.right else "left", width)
    return cell


def print_json(lines: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object per line."""
    import orjson

    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z
    for line in lines:
        print_json_line(orjson.dumps(line, default=_json_value, option=options))


def print_json_line(line: bytes) -> None:
    """One JSON object that is a line already."""
    click.echo(json_safe(line.decode()))


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value)


def note(message: str) -> None:
    """A sentence on stderr that is not part of the answer."""
    click.echo(visible(message), err=True)
