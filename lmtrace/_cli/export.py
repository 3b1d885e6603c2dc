"""``lmtrace export``: the history, or a part of it, as a file for other tools."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmtrace._cli._fail import EnvironmentFailure, NotFoundFailure, UsageFailure
from lmtrace._cli._filters import Filters, filter_options, store_option
from lmtrace._cli._print import note, print_json
from lmtrace._cli._store import check_names, opened, rows
from lmtrace._cli._text import plural, size

if TYPE_CHECKING:
    from lmtrace_exporters import History

ENDINGS = {
    ".duckdb": "duckdb",
    ".db": "duckdb",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
}

STDOUT = "-"

Writer = Callable[["History", str, Sequence[Any], Path], None]
"""Writes the calls that a query with parameters chooses to a file."""


@click.command("export")
@click.argument("target", metavar="FILE")
@click.option(
    "--format", "kind", type=click.Choice(sorted(set(ENDINGS.values()))), help="Instead of what FILE's ending says."
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@filter_options
@store_option
def command(*, target: str, kind: str | None, force: bool, filters: Filters, store: Path | None) -> None:
    """Write calls to FILE: .duckdb, .parquet, .jsonl or .csv; - is JSON lines on stdout.

    A DuckDB database gets the messages, spans and runs of the calls too.
    """
    kind = kind or ("jsonl" if target == STDOUT else ENDINGS.get(Path(target).suffix.lower()))
    if kind is None:
        raise UsageFailure(f"{target}: choose a --format, or an ending of {', '.join(ENDINGS)}")
    if target == STDOUT and kind != "jsonl":
        raise UsageFailure("only JSON lines can go to stdout")
    file = Path(target).absolute()
    if target != STDOUT and file.exists() and not force:
        raise UsageFailure(f"{target} exists; replace it with --force")
    with opened(store, filters) as history:
        condition, params = filters.sql()
        chosen = f"FROM calls WHERE {condition} ORDER BY timestamp, uuid"
        number = rows(history, f"SELECT count(*) AS number FROM calls WHERE {condition}", params)[0]["number"]
        if not number:
            check_names(history, filters)
            raise NotFoundFailure("no call fits")
        if target == STDOUT:
            print_json(rows(history, chosen, params))
            return
        _replace(file, lambda draft: WRITERS[kind](history, chosen, params, draft))
    note(f"{plural(number, 'call')} in {target}, {size(file.stat().st_size)}")


def _replace(file: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make the file under another name, so that a failure leaves no half of it."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write(draft)
        draft.replace(file)
    except OSError as error:
        raise EnvironmentFailure(f"cannot write {file}: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)


def _copy(options: str) -> Writer:
    def write(history: History, chosen: str, params: Sequence[Any], file: Path) -> None:
        rows(history, f"COPY ({chosen}) TO {_quoted(file)} ({options})", params)

    return write


def _database(history: History, chosen: str, params: Sequence[Any], file: Path) -> None:
    from lmtrace_exporters._views import VIEWS

    rows(history, f"ATTACH {_quoted(file)} AS exported")
    rows(history, f"CREATE TABLE exported.calls AS {chosen}", params)
    for name, query in {
        "messages": "FROM messages WHERE uuid IN (SELECT uuid FROM exported.calls) ORDER BY timestamp, direction, position",
        "spans": "FROM spans WHERE call_uuid IN (SELECT uuid FROM exported.calls) OR (call_uuid IS NULL AND "
        "run_id IN (SELECT run_id FROM exported.calls)) ORDER BY timestamp",
        "runs": "FROM runs WHERE run_id IN (SELECT run_id FROM exported.calls)",
    }.items():
        rows(history, f"CREATE TABLE exported.{name} AS {query}")
    for name in ("costs", "rollouts"):
        rows(history, f"CREATE VIEW exported.{name} AS {VIEWS[name]}")
    rows(history, "DETACH exported")


def _quoted(file: Path) -> str:
    return "'" + str(file).replace("'", "''") + "'"


WRITERS: dict[str, Writer] = {
    "duckdb": _database,
    "parquet": _copy("FORMAT parquet, COMPRESSION zstd"),
    "jsonl": _copy("FORMAT json, TIMESTAMPFORMAT '%Y-%m-%dT%H:%M:%S.%fZ'"),
    "csv": _copy("FORMAT csv, HEADER"),
}
