"""Recordings from wherever calls are kept: a cassette, a store, a Parquet folder, JSON lines, or objects at hand."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from lmtrace._entry import HistoryEntry
from lmtrace_replay._cassette import load
from lmtrace_replay._errors import CassetteError
from lmtrace_replay._format import Cassette
from lmtrace_replay._recording import Recording

if TYPE_CHECKING:
    from lmtrace_exporters import History

_logger = logging.getLogger("lmtrace")

Source = str | os.PathLike[str] | Cassette | Iterable[Any]
"""A path, or an iterable of recordings, history entries or rows."""

_GIVEN_UP: Final = frozenset({"CancelledError", "KeyboardInterrupt", "GeneratorExit", "SystemExit", "ReplayMiss"})
"""Ends of a call that say nothing about the provider; they are no answers."""

_COLUMNS: Final = frozenset(
    {"uuid", "timestamp", "trace_id", "span_id", "scope", "path", "model", "model_type", "provider", "streamed"}
    | {"prompt", "messages", "kwargs", "tools", "rollout_id", "response", "chunks", "request_key"}
    | {"error_type", "error_message", "error_status", "error_code", "error_retry_after"}
)
"""The columns recordings are made from, as far as a table has them."""


def recordings_of(source: Source) -> Sequence[Recording]:
    """The recordings in a source, in the order the calls were made.

    Args:
        source: The path of a cassette, a store, a folder or file of Parquet, or a file of JSON lines; a loaded cassette;
            or any iterable of `Recording`, `HistoryEntry` and rows of a store.

    Raises:
        CassetteError: there is nothing of the kind at the path, or it cannot be read, or it holds no content.
    """
    if isinstance(source, Cassette):
        return source.recordings
    if isinstance(source, (str, os.PathLike)):
        return _of_path(Path(source))
    if isinstance(source, Mapping):
        raise CassetteError("one row or entry is no source; pass a list of them")
    return _of_items(source)


def _of_path(path: Path) -> Sequence[Recording]:
    if not path.is_dir():
        reader = _FILES.get(path.suffix.lower())
        return load(path).recordings if reader is None else reader(path)
    if (path / "store.json").exists():
        return of_store(path)
    if next(path.rglob("*.parquet"), None) is not None:
        return _of_parquet(path)
    raise CassetteError(f"{path} is a folder without recordings: name a cassette, a store or a folder of Parquet files")


def of_store(path: str | os.PathLike[str], where: str = "TRUE", params: Sequence[Any] = ()) -> Sequence[Recording]:
    """The recordings of the calls in a store that fit a condition.

    Args:
        path: The store's folder.
        where: A condition in SQL on the columns of `calls`.
        params: Values for the ``?`` in it.

    Raises:
        CassetteError: the store or the condition is not valid, or the calls hold no content.
    """
    from lmtrace_exporters import open_history

    with open_history(path) as history:
        return of_history(history, where, params)


def of_history(history: History, where: str = "TRUE", params: Sequence[Any] = ()) -> Sequence[Recording]:
    """The recordings of the calls of an open history that fit a condition; see `of_store`."""
    relation = history.sql(
        f"SELECT * FROM calls WHERE {where} ORDER BY timestamp, uuid",  # noqa: S608  # the user's own condition
        list(params) or None,
    )
    return _of_rows(_whole(history, row) for row in _rows(relation))


def _whole(history: History, row: dict[str, Any]) -> dict[str, Any]:
    """A row with the payloads that the store keeps beside it."""
    if any(isinstance(value, str) and '"$lmtrace":"blob"' in value for value in row.values()):
        return history.call(row["uuid"]) or row
    return row


def _rows(relation: Any) -> Iterator[dict[str, Any]]:
    names = [name for name in relation.columns if name in _COLUMNS]
    for values in relation.select(*names).fetchall():
        yield dict(zip(names, values, strict=True))


def _of_parquet(path: Path) -> Sequence[Recording]:
    import duckdb

    pattern = str(path / "**" / "*.parquet") if path.is_dir() else str(path)
    try:
        with duckdb.connect() as connection:
            table = connection.read_parquet(pattern, union_by_name=True, hive_partitioning=False)
            if not {"model_type", "messages"} <= set(table.columns):
                raise CassetteError(f"{path} holds no calls: it lacks the columns model_type and messages")
            order = ", ".join(name for name in ("timestamp", "uuid") if name in table.columns)
            calls = table.filter("model_type IS NOT NULL")
            return _of_rows(_rows(calls.order(order) if order else calls))
    except duckdb.Error as error:
        raise CassetteError(f"cannot read {path}: {error}") from None


def _of_lines(path: Path) -> Sequence[Recording]:
    try:
        rows = [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
    except OSError as error:
        raise CassetteError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise CassetteError(f"{path} is no file of JSON lines: {error}") from None
    return _of_items(row for row in rows if isinstance(row, dict) and row.get("kind", "call") == "call")


_FILES: Final = {".parquet": _of_parquet, ".jsonl": _of_lines, ".ndjson": _of_lines}


def _of_items(items: Iterable[Any]) -> Sequence[Recording]:
    """Recordings of objects at hand, whatever mixture they are."""
    found: list[Recording] = []
    rows: list[Mapping[str, Any]] = []
    for item in items:
        if isinstance(item, Recording):
            found.append(item)
        elif isinstance(item, HistoryEntry):
            if _answers(None if item.error is None else item.error.type, item.response):
                found.append(Recording.from_entry(item))
        elif isinstance(item, Mapping):
            rows.append(item)
        else:
            raise CassetteError(
                f"a {type(item).__name__} is no recording: pass a path, or recordings, history entries or rows"
            )
    return [*found, *_of_rows(rows)] if rows else found


def _of_rows(rows: Iterable[Mapping[str, Any]]) -> list[Recording]:
    found: list[Recording] = []
    unusable, reason = 0, ""
    for row in rows:
        if not _answers(row.get("error_type"), row.get("response")):
            continue
        try:
            found.append(_of_row(row))
        except (ValueError, KeyError) as error:
            unusable, reason = unusable + 1, str(error)
    if unusable and not found:
        raise CassetteError(f"none of {unusable:,} calls can be replayed: {reason}")
    if unusable:
        _logger.warning("%d of %d calls cannot be replayed: %s", unusable, unusable + len(found), reason)
    return found


def _of_row(row: Mapping[str, Any]) -> Recording:
    if _BLOB in orjson.dumps([row.get(name) for name in _PAYLOADS]).replace(b"\\", b""):
        raise ValueError("a payload over 1 MB is kept beside the store: name the store itself as source")
    return Recording.from_row(row, encoded=_is_encoded(row))


_BLOB: Final = b'"$lmtrace":"blob"'
_PAYLOADS: Final = ("prompt", "messages", "tools", "kwargs", "response")


def _answers(error: str | None, response: Any) -> bool:
    """Whether a call ended in something that can be served again."""
    if error is not None:
        return error.rpartition(".")[2] not in _GIVEN_UP
    return response is not None


def _is_encoded(row: Mapping[str, Any]) -> bool:
    """Whether the JSON columns of a row are texts: parameters and answers are objects otherwise."""
    return isinstance(row.get("kwargs"), str) or isinstance(row.get("response"), str)
