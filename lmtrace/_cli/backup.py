"""``lmtrace backup``: a copy of the store at one moment, made while programs go on recording."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from lmtrace._cli._fail import EnvironmentFailure
from lmtrace._cli._filters import json_option, store_option
from lmtrace._cli._print import print_json
from lmtrace._cli._store import existing_store
from lmtrace._cli._text import plural, size


@click.command("backup")
@click.argument("target", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--copy", is_flag=True, help="Copy every byte; without it, files that never change are hard links.")
@json_option
@store_option
def command(*, target: Path, copy: bool, as_json: bool, store: Path | None) -> None:
    """Copy the store to DIR, which must not exist; the copy is a store like any other."""
    path = existing_store(store)
    from lmtrace_exporters import StoreError, backup

    try:
        report = backup(path, target.expanduser(), link=not copy)
    except (StoreError, OSError) as error:
        raise EnvironmentFailure(str(error)) from None
    if as_json:
        print_json([asdict(report)])
        return
    held = ", ".join(
        plural(number, noun)
        for number, noun in ((report.segments, "segment"), (report.journals, "journal"), (report.blobs, "payload"))
    )
    click.echo(f"{held}, {size(report.bytes)} in {target}; check it with lmtrace verify --store {target}")
