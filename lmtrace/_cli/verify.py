"""``lmtrace verify``: every byte of the store against its checksum."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmtrace._cli._fail import EnvironmentFailure
from lmtrace._cli._filters import json_option, store_option
from lmtrace._cli._print import print_json
from lmtrace._cli._store import existing_store
from lmtrace._cli._text import plural, size
from lmtrace._visible import visible

if TYPE_CHECKING:
    from lmtrace_exporters import Problem


@click.command("verify")
@json_option
@store_option
@click.pass_context
def command(context: click.Context, *, as_json: bool, store: Path | None) -> None:
    """Check segments, journals, payloads, the catalog and the cache's index, and list what lies in quarantine.

    Changes nothing.

    The exit code is 1 when anything is wrong.
    """
    path = existing_store(store)
    from lmtrace_exporters import StoreError, verify

    try:
        report = verify(path)
    except (StoreError, OSError) as error:
        raise EnvironmentFailure(str(error)) from None
    report.problems += _of_index(path)
    problems = [{"path": problem.path, "reason": problem.reason} for problem in report.problems]
    if as_json:
        names = ("segments", "journals", "blobs", "filters", "rows", "bytes")
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


def _of_index(path: Path) -> list[Problem]:
    """What is wrong with the answers of the cache: nothing is lost with them, as they are made again from the rows."""
    from lmtrace_exporters import Problem
    from lmtrace_replay._index import Index
    from lmtrace_replay._open_cache import INDEX_NAME

    index = Index(path / INDEX_NAME, max_bytes=0)
    try:
        found = index.check()
    except (sqlite3.Error, OSError) as error:
        found = [f"cannot be read now: {error}"]
    finally:
        index.close()
    how = f"remove it, and `lmtrace cache rebuild --store {path}` makes it again"
    return [Problem(INDEX_NAME, f"{reason}; {how}") for reason in found]
