"""``lmtrace cassette create``: from recorded history to an offline test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmtrace._cli._fail import NotFoundFailure, UsageFailure
from lmtrace._cli._filters import Filters, filter_options, json_option, store_option
from lmtrace._cli._print import note, print_json
from lmtrace._cli._store import check_names, opened
from lmtrace._cli._text import plural, size
from lmtrace._cli.cassette._files import cassette_errors, check_target, secrets_option, target_option, write
from lmtrace._cli.cassette.stat import summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmtrace_exporters import History
    from lmtrace_replay._recording import Recording

EXAMPLES = """
    \b
    lmtrace cassette create --trace 4bf92f3577b34da6 -o bug.cassette
    lmtrace cassette create --run rag-v2 --scope RAG.answer -o rag.cassette
    lmtrace cassette create --where "cost > 0.01 AND model LIKE '%mini'" -o dear.cassette
"""


@click.command("create", epilog=EXAMPLES)
@target_option
@click.option("--where", metavar="SQL", help="Only calls that fit this condition on the columns of `calls`.")
@secrets_option
@filter_options
@json_option
@store_option
def command(
    *,
    output: Path,
    force: bool,
    where: str | None,
    allow_secrets: bool,
    filters: Filters,
    as_json: bool,
    store: Path | None,
) -> None:
    """Write the recorded calls of a trace, a run or a condition to a cassette.

    Replay it with `lmtrace.replay(FILE)`, or as the cassette of a test.
    """
    if where is None and filters == Filters():
        raise UsageFailure("say which calls: --trace ID, --run RUN, --where SQL, or another filter")
    check_target(output, force=force)
    with opened(store, filters) as history:
        recordings = _recordings(history, filters, where)
        if not recordings:
            check_names(history, filters)
            raise NotFoundFailure("no call fits that was answered or failed; look for one: lmtrace ls")
    write(output, recordings, None, scan=not allow_secrets)
    if as_json:
        print_json([summary(output)])
    else:
        note(f"{plural(len(recordings), 'call')} in {output}, {size(output.stat().st_size)}")


def _recordings(history: History, filters: Filters, where: str | None) -> Sequence[Recording]:
    import duckdb

    from lmtrace_exporters import HistoryQueryError
    from lmtrace_replay._sources import of_history

    condition, params = filters.sql()
    try:
        with cassette_errors():
            return of_history(history, f"{condition} AND ({where or 'TRUE'}\n)", params)
    except (HistoryQueryError, duckdb.Error) as error:
        raise UsageFailure(str(error)) from None
