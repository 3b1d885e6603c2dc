"""``lmtrace rebuild-index``: make again what only says where the rows are."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from lmtrace._cli._fail import EnvironmentFailure
from lmtrace._cli._filters import json_option, store_option
from lmtrace._cli._print import note, print_json
from lmtrace._cli._store import existing_store
from lmtrace._cli._text import plural


@click.command("rebuild-index")
@click.option("--force", is_flag=True, help="Also when it is sound.")
@json_option
@store_option
def command(*, force: bool, as_json: bool, store: Path | None) -> None:
    """Make a lost or damaged catalog again from the segments, and what searches and the cache derive; no row is touched."""
    path = existing_store(store)
    from lmtrace_exporters import StoreError, rebuild_catalog

    try:
        report = rebuild_catalog(path, force=force)
    except (StoreError, OSError) as error:
        raise EnvironmentFailure(str(error)) from None
    answers = _fill_index(path) if (path / "index.sqlite").exists() else None
    if as_json:
        print_json([{**asdict(report), "answers": answers}])
    elif not report.ran:
        note("a compaction is running; try again when it has ended")
    else:
        found = f"{plural(report.segments, 'segment')}, {plural(report.rows, 'row')}"
        click.echo(f"{'made again' if report.rebuilt else 'sound, left as it is'}: {found}")
        if report.filters:
            click.echo(f"made for searches: {plural(report.filters, 'filter')}")
        if answers is not None:
            click.echo(f"the cache's index has {plural(answers, 'answer')}")


def _fill_index(store: Path) -> int:
    """Fill the cache's index from the history and return how many answers it has.

    Raises:
        Failure: it cannot be read or written.
    """
    from lmtrace._cli.cache import opened_index
    from lmtrace_exporters import StoreError
    from lmtrace_replay._rebuild import rebuild

    with opened_index(store) as index:
        try:
            rebuild(store, index)
        except (StoreError, OSError) as error:
            raise EnvironmentFailure(str(error)) from None
        return index.figures().entries
