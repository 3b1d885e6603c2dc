"""The store a command reads, and the questions several commands ask it.

Rows are dictionaries: times in UTC, JSON columns parsed. DuckDB is imported when a store is opened, not before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmtrace._cli._fail import EnvironmentFailure, NotFoundFailure, UsageFailure, nearest, settings_errors
from lmtrace._cli._filters import Filters

if TYPE_CHECKING:
    from lmtrace_exporters import Fetched, History

Row = dict[str, Any]

HOW_TO_RECORD = "record something first: `lmtrace run -- python app.py`, or `lmtrace demo` to see it work"


def store_path(given: Path | None) -> Path:
    """The folder of the store: `given`, else what the settings say.

    Raises:
        Failure: the store is off, or a setting is not valid.
    """
    if given is not None:
        return given.expanduser().absolute()
    with settings_errors():
        from lmtrace._settings import resolve

        settings = resolve()
    if settings.store is None:
        source = settings.sources["store"]
        why = "there is no place for a store here" if source == "default" else f"the store is off ({source})"
        raise EnvironmentFailure(f"{why}; name one with --store DIR")
    return settings.store


def existing_store(given: Path | None) -> Path:
    """The same, of a store that is there.

    Raises:
        Failure: there is none.
    """
    path = store_path(given)
    if not (path / "store.json").exists():
        raise EnvironmentFailure(f"no store at {path}; {HOW_TO_RECORD}, or name another with --store DIR")
    return path


@contextmanager
def opened(given: Path | None, filters: Filters | None = None) -> Iterator[History]:
    """The history in the store, without files that lie wholly outside the time of the filters.

    Raises:
        Failure: there is no store, or it cannot be read by this version.
    """
    path = existing_store(given)
    from lmtrace_exporters import StoreError, open_history

    period = filters or Filters()
    try:
        history = open_history(path, since=period.since, until=period.until)
    except (StoreError, OSError) as error:
        raise EnvironmentFailure(str(error)) from None
    try:
        yield history
    finally:
        history.close()


@contextmanager
def flushed() -> Iterator[History]:
    """The history this process records, with everything it has recorded.

    Raises:
        Failure: the store is off or cannot be read.
    """
    import lmtrace
    from lmtrace import _settings

    lmtrace.flush(5.0)
    with opened(_settings.current().store) as history:
        yield history


def rows(history: History, query: str, params: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
    """What `query` gives.

    Raises:
        Failure: the query is wrong.
    """
    from lmtrace_exporters import HistoryQueryError

    try:
        return _dictionaries(history.fetch(query, params or None))
    except HistoryQueryError as error:
        raise UsageFailure(str(error)) from None


def _dictionaries(found: Fetched) -> list[Row]:
    return [
        {name: _plain(value, kind) for name, value, kind in zip(found.columns, values, found.types, strict=True)}
        for values in found.rows
    ]


def _plain(value: Any, kind: str) -> Any:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    if kind == "JSON" and isinstance(value, str):
        return json.loads(value)
    return value


def calls(
    history: History,
    filters: Filters,
    limit: int = 0,
    *,
    where: str = "TRUE",
    params: Sequence[Any] = (),
    columns: str = "*",
) -> list[Row]:
    """The newest calls that fit `filters` and `where`, oldest first.

    Raises:
        Failure: none fits because a filter names what the store does not have.
    """
    if limit and where == "TRUE" and filters == Filters(since=filters.since, until=filters.until):
        return history.recent(limit)[::-1]  # reads only the newest files
    condition, values = filters.sql()
    if limit:
        found = _dictionaries(
            history.find(f"{condition} AND {where}", [*values, *params], count=limit, columns=columns)
        )
    else:
        query = f"SELECT {columns} FROM calls WHERE {condition} AND {where} ORDER BY timestamp DESC, uuid DESC"
        found = rows(history, query, [*values, *params])
    if not found:
        check_names(history, filters)
    return found[::-1]


def holding(history: History, filters: Filters, limit: int, wanted: str, **how: Any) -> list[Row]:
    """The newest calls that fit `filters` and hold a text, oldest first; `how` is for `History.search`.

    Raises:
        Failure: the text is no regular expression, or none fits because a filter names what the store does not have.
    """
    from lmtrace_exporters import HistoryQueryError

    condition, values = filters.sql()
    try:
        found = _dictionaries(history.search(wanted, where=condition, params=values, count=limit or None, **how))
    except HistoryQueryError as error:
        raise UsageFailure(str(error)) from None
    if not found:
        check_names(history, filters)
    return found[::-1]


def check_names(history: History, filters: Filters) -> None:
    """Raise a failure that names the nearest valid ones when a filter's model, run, trace or scope does not exist."""
    for name, value, only, columns in (
        ("model", filters.model, Filters(model=filters.model), ("model", "response_model")),
        ("run", filters.run, Filters(run=filters.run), ("run_name", "run_id")),
        ("trace", filters.trace, Filters(trace=filters.trace), ("trace_id",)),
        ("scope", filters.scope, Filters(scope=filters.scope), ("scope",)),
    ):
        if value is None:
            continue
        condition, params = only.sql()
        if not rows(history, f"SELECT 1 FROM calls WHERE {condition} LIMIT 1", params):
            known = known_values(history, columns)
            if known:
                some = f"; there are: {', '.join(known[:5])}"
                raise NotFoundFailure(f"no call of {name} {value!r}{nearest(value, known) or some}")


def known_values(history: History, columns: Sequence[str]) -> list[str]:
    """Up to 1,000 of the values in `columns` of the calls, the newest first."""
    union = " UNION ALL ".join(
        f"SELECT {column} AS name, max(timestamp) AS last FROM calls GROUP BY 1" for column in columns
    )
    query = f"SELECT name FROM ({union}) WHERE name IS NOT NULL GROUP BY name ORDER BY max(last) DESC LIMIT 1000"
    return [row["name"] for row in rows(history, query)]
