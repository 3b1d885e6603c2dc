"""Read what was exported, without believing it: each row's columns have the schema's types, or it is no row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from lmtrace_exporters._duck import connect
from lmtrace_exporters._errors import StoreError
from lmtrace_exporters._rows import from_table
from lmtrace_exporters._rowsql import COLUMNS, IDENTITY, parquet_sql

_PORTION: Final = 500
_NOT_STORED: Final = ("kind", "crc32", "output_text", "extra")


@dataclass(frozen=True, slots=True)
class Found:
    """A row of an exported file, or why there is none."""

    place: str
    """Where: ``line 7``, ``calls.parquet row 7``."""
    kind: str = ""
    row: dict[str, Any] = field(default_factory=dict)
    """Its columns with a value, times in ISO form, unknown ones among them."""
    problem: str | None = None


def read_exported(source: Path) -> Iterator[Found]:
    """Yield the rows of a file of JSON lines or Parquet, or of a folder of Parquet files, in their order.

    Raises:
        StoreError: it is neither, or not readable as such.
        OSError: it cannot be read.
    """
    if source.is_dir():
        files = sorted([*source.glob("*.parquet"), *source.glob("calls/*.parquet"), *source.glob("spans/*.parquet")])
        if not files:
            raise StoreError(f"{source} has no Parquet files, and none in calls/ and spans/")
        for file in files:
            yield from _parquet(file)
    elif _is_parquet(source):
        yield from _parquet(source)
    else:
        yield from _json_lines(source)


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _json_lines(path: Path) -> Iterator[Found]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line)
            except ValueError:
                yield Found(f"line {number}", problem="not JSON")
                continue
            yield _checked(f"line {number}", row)


def _parquet(path: Path) -> Iterator[Found]:
    import duckdb

    with connect(threads=1) as connection:
        try:
            result = connection.execute(parquet_sql([path]))
            names = [column[0] for column in result.description or ()]
            kind = "call" if "uuid" in names else "span"
            number = 0
            while rows := result.fetchmany(_PORTION):
                for values in rows:
                    number += 1
                    yield _checked(f"{path.name} row {number}", _decoded(kind, dict(zip(names, values, strict=True))))
        except duckdb.Error as error:
            raise StoreError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None


def _decoded(kind: str, values: dict[str, Any]) -> Any:
    try:
        row = from_table(kind, values)
    except ValueError:
        return None
    return {"kind": kind, **{name: _iso(value) for name, value in row.items()}}


def _iso(value: Any) -> Any:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


def _checked(place: str, row: Any) -> Found:
    if not isinstance(row, dict):
        return Found(place, problem="not an object")
    kind = row.get("kind") or ("call" if row.get("uuid") else "span")  # what goes to stdout says no kind
    if kind not in COLUMNS:
        return Found(place, problem=f"a row of the kind {str(kind)[:40]!r}")
    extra = row.get("extra")
    columns = {**row, **(extra if isinstance(extra, dict) else {})}
    stored = {name: value for name, value in columns.items() if value is not None and name not in _NOT_STORED}
    for name in (IDENTITY[kind], "timestamp"):
        if not stored.get(name):
            return Found(place, problem=f"no {name}")
    for name, value in stored.items():
        if not _FITS[COLUMNS[kind].get(name, "JSON")](value):
            return Found(place, problem=f"{name} is no {COLUMNS[kind][name]}")
    return Found(place, kind, stored)


def _is_time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _is_whole(bits: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_FITS: Final[dict[str, Callable[[Any], bool]]] = {
    "VARCHAR": _is_text,
    "TIMESTAMPTZ": _is_time,
    "DOUBLE": lambda value: type(value) in (int, float),
    "BIGINT": _is_whole(64),
    "INTEGER": _is_whole(32),
    "BOOLEAN": lambda value: isinstance(value, bool),
    "MAP(VARCHAR, VARCHAR)": lambda value: isinstance(value, dict) and all(map(_is_text, value.values())),
    "VARCHAR[]": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "JSON": lambda _: True,
}
