"""``lmtrace export``: the history, or a part of it, as a file for other tools or as spans for a backend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmtrace._cli._fail import EnvironmentFailure, NotFoundFailure, UsageFailure, settings_errors
from lmtrace._cli._filters import Filters, filter_options, store_option
from lmtrace._cli._print import note, print_json, print_json_line
from lmtrace._cli._store import check_names, opened, rows
from lmtrace._cli._text import plural, size

if TYPE_CHECKING:
    from lmtrace_exporters import History, OTLPExporter

ENDINGS = {
    ".duckdb": "duckdb",
    ".db": "duckdb",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
}

STDOUT = "-"
OTLP = "otlp"
FINETUNE = "finetune"

EXAMPLES = """
    \b
    lmtrace export calls.parquet --since 7d
    lmtrace export dear.jsonl --where "cost > 0.01 AND tags['exp'] = 'a'"
    lmtrace export train.jsonl --to finetune --run rag-v2 --scope RAG.answer --min-score 1
    lmtrace export - --to finetune | head -1
    lmtrace export --to otlp --endpoint http://localhost:4318 --run rag-v2
"""


@click.command("export", epilog=EXAMPLES)
@click.argument("target", metavar="[FILE]", default="")
@click.option(
    "--to",
    "--format",
    "kind",
    type=click.Choice([*sorted(set(ENDINGS.values())), FINETUNE, OTLP]),
    help="Instead of what FILE's ending says; finetune is OpenAI's JSON lines, otlp sends spans and takes no FILE.",
)
@click.option(
    "--min-score", type=float, metavar="SCORE", help="Only calls for examples that dspy.Evaluate gave at least that."
)
@click.option(
    "--where", default="TRUE", metavar="SQL", help="Only calls that fulfil a condition on the columns of calls."
)
@click.option("--endpoint", metavar="URL", help="OTLP: where to, or a preset; by default as in the settings.")
@click.option("--protocol", type=click.Choice(["http/protobuf", "grpc"]), help="OTLP: by default as in the settings.")
@click.option("--content", is_flag=True, help="OTLP: send messages and answers, too.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@filter_options
@store_option
def command(
    *,
    target: str,
    kind: str | None,
    where: str,
    min_score: float | None,
    endpoint: str | None,
    protocol: str | None,
    content: bool,
    force: bool,
    filters: Filters,
    store: Path | None,
) -> None:
    """Write calls to FILE: .duckdb, .parquet, .jsonl or .csv; - is JSON lines on stdout.

    With --to finetune, FILE, or stdout, gets the conversations of chat calls that succeeded, to train a model on: messages, the answer, tools.
    All other files but .csv and a single .parquet file have the spans of the calls' traces and runs, too. With --to otlp, calls and
    spans go to a backend as the spans they were, ids and times included.
    """
    kind = kind or ("jsonl" if target == STDOUT else ENDINGS.get(Path(target).suffix.lower()))
    _check_use(target, kind, endpoint)
    exporter = _sender(endpoint, protocol, content=content) if kind == OTLP else None
    with opened(store, filters) as history:
        condition, params = filters.sql()
        condition = f"({condition}) AND ({where}\n)"  # the line ends a comment in it
        if min_score is not None:
            condition, params = f"{condition} AND {_SCORED}", [*params, min_score]
        number = rows(history, f"SELECT count(*) AS number FROM calls WHERE {condition}", params)[0]["number"]
        if not number:
            check_names(history, filters)
            raise NotFoundFailure("no call fits")
        if exporter is not None:
            _send(history, exporter, condition, params)
            return
        if target == STDOUT:
            _print(history, str(kind), condition, params)
            return
        written = _write(history, target, str(kind), condition, params, force=force)
    what = plural(number, "call") if kind != FINETUNE else _conversations(written, number)
    note(f"{what} in {target}, {size(_bytes(written))}")


def _print(history: History, kind: str, condition: str, params: list[Any]) -> None:
    if kind == FINETUNE:
        from lmtrace_exporters._export import training_lines

        for line in training_lines(history, where=condition, params=params):
            print_json_line(line)
    else:
        print_json(rows(history, f"SELECT * FROM calls WHERE {condition} ORDER BY timestamp, uuid", params))


_SCORED = "example_id IN (SELECT example_id FROM examples WHERE score >= ?)"


def _conversations(written: Path, number: int) -> str:
    with written.open("rb") as file:
        return f"{plural(sum(1 for _ in file), 'conversation')} of {plural(number, 'call')}"


def _check_use(target: str, kind: str | None, endpoint: str | None) -> None:
    if (kind == OTLP) == bool(target):
        raise UsageFailure("--to otlp takes no FILE, but an --endpoint" if target else "name a FILE, or - for stdout")
    if kind is None:
        raise UsageFailure(f"{target}: choose a format with --to, or an ending of {', '.join(ENDINGS)}")
    if target == STDOUT and kind not in ("jsonl", FINETUNE):
        raise UsageFailure("only JSON lines can go to stdout")
    if endpoint is not None and kind != OTLP:
        raise UsageFailure("--endpoint is for --to otlp")


def _sender(endpoint: str | None, protocol: str | None, *, content: bool) -> OTLPExporter:
    """The exporter for an endpoint, with the settings for what is not given; headers come from there only."""
    from lmtrace_exporters import OTLPExporter

    with settings_errors():
        from lmtrace._compose import PRESETS
        from lmtrace._settings import resolve

        settings = resolve()
        where = endpoint or settings.otlp
        preset = where if where in PRESETS else None
        return OTLPExporter(
            None if preset else where,
            preset=preset,
            protocol=protocol or settings.otlp_protocol,
            headers=dict(settings.otlp_headers) or None,
            service_name=settings.service_name or "lmtrace",
            content=content,
        )


def _send(history: History, exporter: OTLPExporter, condition: str, params: list[Any]) -> None:
    from lmtrace_exporters import StoreError, resend

    try:
        resend(history, exporter, where=condition, params=params)
    except StoreError as error:
        figures = exporter.stats()
        raise EnvironmentFailure(f"{error}; {figures['written']} spans arrived") from None
    finally:
        exporter.shutdown(1_000)
    note(f"{plural(exporter.stats()['written'], 'span')} sent to {exporter.endpoint}")


def _write(history: History, target: str, kind: str, condition: str, params: list[Any], *, force: bool) -> Path:
    import duckdb

    from lmtrace_exporters import StoreError, export_history

    try:
        if force:
            _remove(Path(target))
        return export_history(history, target, kind, where=condition, params=params)
    except StoreError as error:
        raise UsageFailure(f"{error}, or replace it with --force") from None
    except OSError as error:
        raise EnvironmentFailure(f"cannot write {target}: {error.strerror or error}") from None
    except duckdb.Error as error:  # a full disk, say
        raise EnvironmentFailure(f"cannot write {target}: {str(error).splitlines()[0]}") from None


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
