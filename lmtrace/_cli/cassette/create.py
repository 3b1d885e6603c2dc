"""``lmtrace cassette create``: from recorded history to an offline test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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

_GIVEN_AGAIN = """
    served_by = 'cache' AND EXISTS (
        SELECT 1 FROM calls AS first
        WHERE first.request_key = calls.request_key AND first.rollout_id IS NOT DISTINCT FROM calls.rollout_id
          AND first.cache_name IS NOT NULL AND {chosen})
"""
"""An answer out of lmtrace's cache whose first time is among the chosen calls: replay gives that one again as well."""

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
    from lmtrace_replay._header import current_header

    if where is None and filters == Filters():
        raise UsageFailure("say which calls: --trace ID, --run RUN, --where SQL, or another filter")
    check_target(output, force=force)
    with opened(store, filters) as history:
        recordings = _recordings(history, filters, where)
        if not recordings:
            check_names(history, filters)
            raise NotFoundFailure("no call fits that was answered or failed; look for one: lmtrace ls")
        header = current_header(recordings, _cancelled(history, filters, where))
    write(output, recordings, header, scan=not allow_secrets)
    if as_json:
        print_json([summary(output)])
    else:
        note(f"{plural(len(recordings), 'call')} in {output}, {size(output.stat().st_size)}")


def _recordings(history: History, filters: Filters, where: str | None) -> Sequence[Recording]:
    import duckdb

    from lmtrace_exporters import HistoryQueryError
    from lmtrace_replay._sources import of_history

    chosen, params = _chosen(filters, where)
    try:
        with cassette_errors():
            return of_history(history, f"{chosen} AND NOT ({_GIVEN_AGAIN.format(chosen=chosen)})", [*params, *params])
    except (HistoryQueryError, duckdb.Error) as error:
        raise UsageFailure(str(error)) from None


def _cancelled(history: History, filters: Filters, where: str | None) -> list[str]:
    """Keys of the calls that the program cancelled: a miss can say so."""
    chosen, params = _chosen(filters, where)
    query = f"SELECT DISTINCT request_key FROM calls WHERE {chosen} AND ends_with(error_type, 'CancelledError')"
    return [key for (key,) in history.sql(query, params or None).fetchall() if key is not None]


def _chosen(filters: Filters, where: str | None) -> tuple[str, list[Any]]:
    """The condition that the options describe, and its values."""
    condition, params = filters.sql()
    return f"{condition} AND ({where or 'TRUE'}\n)", list(params)
