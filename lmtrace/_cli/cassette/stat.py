"""``lmtrace cassette stat``: what cassettes hold, in figures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmtrace._cli._filters import json_option
from lmtrace._cli._print import Column, print_json, print_table
from lmtrace._cli._text import count, size, total_money
from lmtrace._cli.cassette._files import found, read

if TYPE_CHECKING:
    from lmtrace_replay._recording import Recording


@click.command("stat")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True), metavar="FILE|DIR …")
@json_option
def command(*, paths: tuple[Path, ...], as_json: bool) -> None:
    """Show what cassettes hold: calls, models, tokens, and what recording them has cost."""
    lines = [summary(path) for path in found(paths)]
    if as_json:
        print_json(lines)
    else:
        print_table(_COLUMNS, [_cells(line) for line in lines])


def summary(path: Path) -> dict[str, Any]:
    """The figures of one cassette.

    Raises:
        Failure: it cannot be read.
    """
    cassette = read(path)
    recordings = cassette.recordings
    known, unknown = _cost(recordings)
    return {
        "path": str(path),
        "bytes": path.stat().st_size,
        "calls": len(recordings),
        "requests": len({(recording.request_key, str(recording.rollout_id)) for recording in recordings}),
        "errors": sum(recording.error is not None for recording in recordings),
        "streams": sum(recording.chunks is not None for recording in recordings),
        "models": cassette.models,
        "input_tokens": _tokens(recordings, "input_tokens"),
        "output_tokens": _tokens(recordings, "output_tokens"),
        "cost": known,
        "unknown_costs": unknown,
        "versions": dict(cassette.header.versions),
        "adapter": cassette.header.adapter,
    }


def _tokens(recordings: Iterable[Recording], name: str) -> int:
    usages = [recording.response.usage for recording in recordings if recording.response is not None]
    return sum(getattr(usage, name) or 0 for usage in usages if usage is not None)


def _cost(recordings: Iterable[Recording]) -> tuple[float, int]:
    """The sum of what is known, and how many answers have no price."""
    costs = [recording.response.cost for recording in recordings if recording.response is not None]
    return sum(cost for cost in costs if cost is not None), sum(cost is None for cost in costs)


_COLUMNS = (
    Column("cassette", flexible=True),
    Column("calls", right=True),
    Column("requests", right=True, optional=2),
    Column("errors", right=True, optional=3),
    Column("models", flexible=True),
    Column("tokens", right=True, optional=1),
    Column("cost", right=True),
    Column("size", right=True, optional=4),
)


def _cells(line: dict[str, Any]) -> list[str]:
    return [
        line["path"],
        f"{line['calls']:,}",
        f"{line['requests']:,}",
        f"{line['errors']:,}",
        ", ".join(line["models"]),
        f"{count(line['input_tokens'])}→{count(line['output_tokens'])}",
        total_money(line["cost"], line["unknown_costs"]),
        size(line["bytes"]),
    ]
