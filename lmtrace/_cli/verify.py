"""``lmtrace verify``: every byte of the store against its checksum."""

from __future__ import annotations

from pathlib import Path

import click

from lmtrace._cli._fail import EnvironmentFailure
from lmtrace._cli._filters import json_option, store_option
from lmtrace._cli._print import print_json
from lmtrace._cli._store import existing_store
from lmtrace._cli._text import plural, size
from lmtrace._visible import visible


@click.command("verify")
@json_option
@store_option
@click.pass_context
def command(context: click.Context, *, as_json: bool, store: Path | None) -> None:
    """Check segments, journals, payloads and the catalog, and list what lies in quarantine. Changes nothing.

    The exit code is 1 when anything is wrong.
    """
    path = existing_store(store)
    from lmtrace_exporters import StoreError, verify

    try:
        report = verify(path)
    except (StoreError, OSError) as error:
        raise EnvironmentFailure(str(error)) from None
    problems = [{"path": problem.path, "reason": problem.reason} for problem in report.problems]
    if as_json:
        names = ("segments", "journals", "blobs", "rows", "bytes")
        print_json([{name: getattr(report, name) for name in names} | {"problems": problems}])
    else:
        for problem in report.problems:
            click.echo(visible(f"✗ {problem}"))
        checked = (
            f"{plural(report.rows, 'row')} in {plural(report.segments, 'segment')} and "
            f"{plural(report.journals, 'journal')}, {plural(report.blobs, 'payload')}, {size(report.bytes)}"
        )
        click.echo(f"{checked}: {plural(len(problems), 'problem') if problems else 'all as it was written'}")
    context.exit(1 if problems else 0)
