"""``lmtrace import``: rows that were exported elsewhere, added to a store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmtrace._cli._fail import EnvironmentFailure, UsageFailure
from lmtrace._cli._filters import json_option, store_option
from lmtrace._cli._print import note, print_json
from lmtrace._cli._store import store_path
from lmtrace._cli._text import plural

if TYPE_CHECKING:
    from lmtrace_exporters import ImportReport

SHOWN = 5
"""Lines that are no rows and are named; of the others only the number is told."""


@click.command("import")
@click.argument("source", metavar="FILE", type=click.Path(exists=True, path_type=Path))
@json_option
@store_option
@click.pass_context
def command(ctx: click.Context, *, source: Path, as_json: bool, store: Path | None) -> None:
    """Add the calls and spans in FILE to the store: JSON lines, Parquet, or a folder of Parquet files.

    A row that is there already is left alone, so an import can be repeated. The exit code is 1 if something in FILE is no
    row.
    """
    target = store_path(store)
    report = _import(source, target)
    if as_json:
        print_json([asdict(report)])
    else:
        click.echo(
            f"{plural(report.calls, 'call')} and {plural(report.spans, 'span')} added to {target}"
            + (f", {plural(report.known, 'row')} there already" if report.known else "")
        )
    if report.refused:
        more = f"; and {len(report.refused) - SHOWN} more" if len(report.refused) > SHOWN else ""
        note(f"left out, because no rows: {'; '.join(report.refused[:SHOWN])}{more}")
        ctx.exit(1)


def _import(source: Path, target: Path) -> ImportReport:
    from lmtrace_exporters import StoreError, StoreVersionError, import_history

    try:
        return import_history(source, target)
    except StoreVersionError as error:
        raise EnvironmentFailure(str(error)) from None
    except StoreError as error:
        raise UsageFailure(str(error)) from None
    except OSError as error:
        raise EnvironmentFailure(f"cannot import {source}: {error.strerror or error}") from None
