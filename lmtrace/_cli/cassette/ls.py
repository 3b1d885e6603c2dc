"""``lmtrace cassette ls``: the calls in a cassette, one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lmtrace._cli._filters import json_option
from lmtrace._cli._print import Column, print_json, print_table
from lmtrace._cli._rows import short_model
from lmtrace._cli._text import money
from lmtrace._cli.cassette._files import facts, read


@click.command("ls")
@click.argument("cassette", type=click.Path(path_type=Path), metavar="FILE")
@json_option
def command(*, cassette: Path, as_json: bool) -> None:
    """List the calls in a cassette, in its order."""
    lines = [facts(number, recording) for number, recording in enumerate(read(cassette).recordings, 1)]
    if as_json:
        print_json(lines)
    else:
        print_table(_COLUMNS, [_cells(line) for line in lines])


_COLUMNS = (
    Column("#", right=True, style="dim"),
    Column("task", optional=2),
    Column("scope", optional=1),
    Column("model"),
    Column("asked", flexible=True),
    Column("answered", flexible=True),
    Column("cost", right=True, optional=3),
)


def _cells(line: dict[str, Any]) -> list[str]:
    rollout = "" if line["rollout_id"] is None else f" ({line['rollout_id']})"
    return [
        str(line["number"]),
        line["path"] or "-",
        line["scope"] or "-",
        short_model(line["model"]) + rollout,
        line["asked"],
        line["answered"],
        "-" if line["error_type"] else money(line["cost"]),
    ]
