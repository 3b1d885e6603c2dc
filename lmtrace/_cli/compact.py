"""``lmtrace compact``: what recording programs start by themselves when there is enough to do, now."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from lmtrace._cli._fail import EnvironmentFailure
from lmtrace._cli._filters import json_option, store_option
from lmtrace._cli._print import note, print_json
from lmtrace._cli._store import existing_store
from lmtrace._cli._text import plural


@click.command("compact")
@click.option("--thorough", is_flag=True, help="Check the checksum of every segment, not only of those that changed.")
@json_option
@store_option
def command(*, thorough: bool, as_json: bool, store: Path | None) -> None:
    """Turn the journals of ended programs into Parquet; safe beside programs that go on recording."""
    path = existing_store(store)
    from lmtrace_exporters import StoreError, compact

    try:
        report = compact(path, thorough=thorough)
    except (StoreError, OSError) as error:
        raise EnvironmentFailure(str(error)) from None
    if as_json:
        print_json([asdict(report)])
        return
    if not report.ran:
        note("another compaction is running")
        return
    done = (
        f"{plural(report.journals, 'journal')}, {plural(report.rows, 'row')}, {plural(report.segments, 'new segment')}"
    )
    merged = f", {plural(report.merged, 'small segment')} merged" if report.merged else ""
    damaged = f", {plural(report.quarantined, 'damaged row')} in quarantine" if report.quarantined else ""
    filters = f", {plural(report.filters, 'filter')} for searches" if report.filters else ""
    click.echo(done + merged + damaged + filters)
