"""Write a history as one file or folder for other tools, or hand it to any exporter.

Each target is finished under another name and renamed, so a reader never meets half of one, and an existing target is
never overwritten. Payloads that a store keeps apart are put back into their rows: what is exported is complete.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lmtrace._exporter import Exporter, Record
from lmtrace._spreadsheet import inert
from lmtrace_exporters._database import TABLES, add_tables
from lmtrace_exporters._errors import StoreError
from lmtrace_exporters._finetune import CONDITION, finetune_lines
from lmtrace_exporters._parquet_folder import PARQUET
from lmtrace_exporters._rows import from_table
from lmtrace_exporters._rowsql import quote
from lmtrace_exporters._whole import whole, whole_sql

if TYPE_CHECKING:
    from lmtrace_exporters._history import History

_PORTION: Final = 1_000


def export_history(
    history: History,
    target: str | os.PathLike[str],
    format: str,  # noqa: A002  the user's word
    *,
    where: str = "TRUE",
    params: Sequence[Any] = (),
) -> Path:
    """Write the calls and stored spans of a history for other tools and return the path written.

    Args:
        history: the rows; its time limits apply.
        target: the file to make. ``parquet`` makes one file of calls when the name ends in ``.parquet``, else a folder
            with ``calls.parquet`` and ``spans.parquet``.
        format: ``duckdb`` (a database with the same tables and views), ``parquet``, ``jsonl`` (one object per call and
            span, as in a journal), ``finetune`` (OpenAI's JSON lines for fine-tuning: the conversations of calls that
            succeeded, each once) or ``csv`` (calls only; text that a spreadsheet would run as a formula begins with ').
        where: a condition in SQL on the columns of `calls`; only calls that fulfil it are written, and the spans of their
            traces and runs.
        params: values for the ``?`` in `where`.

    Raises:
        StoreError: the format is unknown, or the target exists.
        OSError: the target cannot be written.
    """
    writer = _WRITERS.get(format)
    if writer is None:
        raise StoreError(f"unknown format {format!r}: choose one of {', '.join(sorted(_WRITERS))}")
    path = Path(target)
    if path.exists():
        raise StoreError(f"{path} exists: choose another name or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        writer(history, draft, _Chosen(where, tuple(params)))
        _make_private(draft)
        draft.rename(path)
    finally:
        _remove(draft)
    return path


def training_lines(history: History, *, where: str = "TRUE", params: Sequence[Any] = ()) -> Iterator[bytes]:
    """The lines that `export_history` writes in the format ``finetune``, without line ends."""
    taught = _Chosen(f"({where}) AND {CONDITION}", tuple(params))
    return finetune_lines(_rows(history, "call", taught))


def resend(history: History, exporter: Exporter, *, where: str = "TRUE", params: Sequence[Any] = ()) -> int:
    """Give the calls and stored spans of a history to an exporter, in the order of time, and return how many it got.

    Args:
        history: the rows; its time limits apply.
        exporter: flushed after each portion, so that it never has to hold many.
        where: a condition in SQL on the columns of `calls`, as for `export_history`.
        params: values for the ``?`` in `where`.

    Raises:
        StoreError: the exporter did not bring all records to their destination; those it can never take are in its
            `stats` instead.
    """
    chosen = _Chosen(where, tuple(params))
    number = 0
    for kind in reversed(TABLES):  # a run before its calls
        for rows in _portions(_rows(history, kind, chosen)):
            exporter.export([Record(cast("Any", kind), orjson.dumps(_as_line(kind, row))) for row in rows])
            number += len(rows)
            if not exporter.force_flush() and _waiting(exporter):
                raise StoreError(f"not all of the first {number} rows arrived{_why(exporter)}")
    return number


def _figures(exporter: Any) -> Mapping[str, Any]:
    figures: Mapping[str, Any] = exporter.stats() if hasattr(exporter, "stats") else {}
    return figures


def _waiting(exporter: Exporter) -> bool:
    """Whether records may still arrive, so that it is not just that some never can."""
    return bool(_figures(exporter).get("buffered", True))


def _why(exporter: Exporter) -> str:
    figures = _figures(exporter)
    return f": {figures['last_error']}" if figures.get("last_error") else ""


def _portions(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while portion := list(islice(rows, _PORTION)):
        yield portion


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The rows to write, as queries on the views of a history."""

    where: str
    params: tuple[Any, ...]

    def of(self, kind: str) -> tuple[str, tuple[Any, ...]]:
        """The query for calls or stored spans, in the order of time, and its parameters."""
        condition, params = self.where, self.params
        if kind == "span" and condition != "TRUE":
            inner = f"SELECT {{}} FROM temp.calls WHERE {condition}"
            condition = f"trace_id IN ({inner.format('trace_id')}) OR run_id IN ({inner.format('run_id')})"
            params = params * 2
        return f"SELECT * FROM temp.{TABLES[kind]} WHERE {condition} ORDER BY timestamp", params


def _make_private(path: Path) -> None:
    path.chmod(0o700 if path.is_dir() else 0o600)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _to_duckdb(history: History, path: Path, chosen: _Chosen) -> None:
    connection = history._refreshed()
    connection.execute(f"ATTACH {quote(path)} AS exported")
    try:
        for kind, table in TABLES.items():
            query, params = whole_sql(history, kind, *chosen.of(kind))
            connection.execute(f"CREATE TABLE exported.{table} AS {query}", params)
    finally:
        connection.execute("DETACH exported")
    _complete(path)


def _complete(path: Path) -> None:
    import duckdb

    with duckdb.connect(path) as connection:
        add_tables(connection)


def _to_parquet(history: History, path: Path, chosen: _Chosen) -> None:
    files = {"call": path}
    if path.suffix != ".parquet":
        path.mkdir()
        files = {"call": path / "calls.parquet", "span": path / "spans.parquet"}
    for kind, file in files.items():
        query, params = whole_sql(history, kind, *chosen.of(kind))
        history._refreshed().execute(f"COPY ({query}) TO {quote(file)} {PARQUET}", params)


def _to_jsonl(history: History, path: Path, chosen: _Chosen) -> None:
    with path.open("wb") as file:
        for kind in TABLES:
            for row in _rows(history, kind, chosen):
                file.write(orjson.dumps(_as_line(kind, row)) + b"\n")


def _to_finetune(history: History, path: Path, chosen: _Chosen) -> None:
    with path.open("wb") as file:
        file.writelines(line + b"\n" for line in training_lines(history, where=chosen.where, params=chosen.params))


def _to_csv(history: History, path: Path, chosen: _Chosen) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, history.sql("FROM calls LIMIT 0").columns)
        writer.writeheader()
        for values in _raw_rows(history, "call", chosen):
            writer.writerow({name: _cell(value) for name, value in values.items()})


def _raw_rows(history: History, kind: str, chosen: _Chosen) -> Iterator[dict[str, Any]]:
    result = history._refreshed().execute(*chosen.of(kind))
    names = [column[0] for column in result.description or ()]
    while rows := result.fetchmany(_PORTION):
        yield from (whole(kind, dict(zip(names, row, strict=True)), history) for row in rows)


def _rows(history: History, kind: str, chosen: _Chosen) -> Iterator[dict[str, Any]]:
    return (from_table(kind, values) for values in _raw_rows(history, kind, chosen))


def _as_line(kind: str, row: dict[str, Any]) -> dict[str, Any]:
    extra = row.pop("extra") or {}
    row["timestamp"] = _iso(row["timestamp"])
    row.pop("output_text", None)
    return {"kind": kind, **{name: value for name, value in row.items() if value is not None}, **extra}


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return _iso(value)
    if isinstance(value, dict | list):
        value = orjson.dumps(value).decode()
    return inert(value)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


_WRITERS: Final[dict[str, Callable[[History, Path, _Chosen], None]]] = {
    "csv": _to_csv,
    "duckdb": _to_duckdb,
    "finetune": _to_finetune,
    "jsonl": _to_jsonl,
    "parquet": _to_parquet,
}
