"""Write a history as one file or folder for other tools.

Each target is finished under another name and renamed, so a reader never meets half of one, and an existing target is
never overwritten.
"""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from lmtrace_exporters._errors import StoreError
from lmtrace_exporters._rows import from_table
from lmtrace_exporters._rowsql import quote
from lmtrace_exporters._views import TEXT_MACRO, VIEWS

if TYPE_CHECKING:
    from lmtrace_exporters._history import History

_TABLES: Final = {"call": "calls", "span": "stored_spans"}
_PARQUET: Final = "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3, ROW_GROUP_SIZE 4096)"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_PORTION: Final = 1_000


def export_history(history: History, target: str | os.PathLike[str], format: str) -> Path:  # noqa: A002  the user's word
    """Write the calls and stored spans of a history for other tools and return the path written.

    Args:
        history: the rows; its time limits apply.
        target: the file to make. ``parquet`` makes one file of calls when the name ends in ``.parquet``, else a folder
            with ``calls.parquet`` and ``spans.parquet``.
        format: ``duckdb`` (a database with the same tables and views), ``parquet``, ``jsonl`` (one object per call and
            span, as in a journal) or ``csv`` (calls only; text that a spreadsheet would run as a formula begins with ').

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
        writer(history, draft)
        _make_private(draft)
        draft.rename(path)
    finally:
        _remove(draft)
    return path


def _make_private(path: Path) -> None:
    path.chmod(0o700 if path.is_dir() else 0o600)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _to_duckdb(history: History, path: Path) -> None:
    connection = history._refreshed()
    connection.execute(f"ATTACH {quote(path)} AS exported")
    try:
        for table in _TABLES.values():
            connection.execute(f"CREATE TABLE exported.{table} AS SELECT * FROM temp.{table} ORDER BY timestamp")
    finally:
        connection.execute("DETACH exported")
    _add_views(path)


def _add_views(path: Path) -> None:
    import duckdb

    with duckdb.connect(path) as connection:
        connection.execute(TEXT_MACRO.replace("TEMP MACRO", "MACRO"))
        for name, query in VIEWS.items():
            connection.execute(f"CREATE VIEW {name} AS {query}")


def _to_parquet(history: History, path: Path) -> None:
    connection = history._refreshed()
    if path.suffix == ".parquet":
        connection.execute(f"COPY (FROM calls ORDER BY timestamp) TO {quote(path)} {_PARQUET}")
        return
    path.mkdir()
    for name, table in (("calls", "calls"), ("spans", "stored_spans")):
        file = path / f"{name}.parquet"
        connection.execute(f"COPY (FROM {table} ORDER BY timestamp) TO {quote(file)} {_PARQUET}")


def _to_jsonl(history: History, path: Path) -> None:
    with path.open("wb") as file:
        for kind in _TABLES:
            for row in _rows(history, kind):
                file.write(orjson.dumps(_as_line(kind, row)) + b"\n")


def _to_csv(history: History, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, history.sql("FROM calls LIMIT 0").columns)
        writer.writeheader()
        for values in _raw_rows(history, "call"):
            writer.writerow({name: _cell(value) for name, value in values.items()})


def _raw_rows(history: History, kind: str) -> Iterator[dict[str, Any]]:
    result = history._refreshed().execute(f"FROM {_TABLES[kind]} ORDER BY timestamp")
    names = [column[0] for column in result.description or ()]
    while rows := result.fetchmany(_PORTION):
        yield from (dict(zip(names, row, strict=True)) for row in rows)


def _rows(history: History, kind: str) -> Iterator[dict[str, Any]]:
    return (from_table(kind, values) for values in _raw_rows(history, kind))


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
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


_WRITERS: Final[dict[str, Callable[[History, Path], None]]] = {
    "csv": _to_csv,
    "duckdb": _to_duckdb,
    "jsonl": _to_jsonl,
    "parquet": _to_parquet,
}
