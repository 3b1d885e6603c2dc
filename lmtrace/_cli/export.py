"""``lmtrace export``: the history, or a part of it, as a file for other tools."""

from __future__ import annotations

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

    All but .csv and a single .parquet file have the spans of the calls' traces and runs, too.
    """
    kind = kind or ("jsonl" if target == STDOUT else ENDINGS.get(Path(target).suffix.lower()))
    if kind is None:
        raise UsageFailure(f"{target}: choose a --format, or an ending of {', '.join(ENDINGS)}")
    if target == STDOUT and kind != "jsonl":
        raise UsageFailure("only JSON lines can go to stdout")
    with opened(store, filters) as history:
        condition, params = filters.sql()
        number = rows(history, f"SELECT count(*) AS number FROM calls WHERE {condition}", params)[0]["number"]
        if not number:
            check_names(history, filters)
            raise NotFoundFailure("no call fits")
        if target == STDOUT:
            print_json(rows(history, f"SELECT * FROM calls WHERE {condition} ORDER BY timestamp, uuid", params))
            return
        written = _write(history, target, kind, condition, params, force=force)
    note(f"{plural(number, 'call')} in {target}, {size(_bytes(written))}")


def _write(history: History, target: str, kind: str, condition: str, params: list[Any], *, force: bool) -> Path:
    from lmtrace_exporters import StoreError, export_history

    try:
        if force:
            _remove(Path(target))
        return export_history(history, target, kind, where=condition, params=params)
    except StoreError as error:
        raise UsageFailure(f"{error}, or replace it with --force") from None
    except OSError as error:
        raise EnvironmentFailure(f"cannot write {target}: {error.strerror or error}") from None


def _remove(target: Path) -> None:
    """Remove an earlier export; a folder only when it can be nothing else."""
    if target.is_dir():
        for name in ("calls.parquet", "spans.parquet"):
            (target / name).unlink(missing_ok=True)
        target.rmdir()
    else:
        target.unlink(missing_ok=True)


def _bytes(written: Path) -> int:
    files = written.iterdir() if written.is_dir() else [written]
    return sum(file.stat().st_size for file in files)
