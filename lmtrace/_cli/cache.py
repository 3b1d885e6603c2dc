"""``lmtrace cache``: the answers that `lmtrace.LM` gives again without asking a provider."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmtrace._cli._fail import EnvironmentFailure, settings_errors
from lmtrace._cli._filters import json_option, store_option
from lmtrace._cli._print import note, print_json
from lmtrace._cli._store import opened, rows, store_path
from lmtrace._cli._text import brief_moment, count, plural, size, total_money

if TYPE_CHECKING:
    from lmtrace._settings import Settings
    from lmtrace_replay._index import Index, IndexFigures

_SERVED = """
    SELECT count(*) FILTER (served_by = 'cache') AS hits, count(*) FILTER (served_by = 'provider') AS asked,
           sum(cost) FILTER (served_by = 'cache') AS saved,
           count(*) FILTER (served_by = 'cache' AND cost IS NULL) AS unknown
    FROM calls
"""


@click.group("cache")
def command() -> None:
    """Look at the answers the cache keeps in the store, or remove them."""


@command.command("stats")
@json_option
@store_option
def stats(*, as_json: bool, store: Path | None) -> None:
    """Show how many answers there are, and what they have saved."""
    with opened(store) as history:
        served = rows(history, _SERVED)[0]
    path = store_path(store)
    with opened_index(path) as index:
        found = index.figures()
    report = _Report(_settings(), found, served)
    if as_json:
        print_json([report.data()])
    else:
        click.echo("\n".join(report.lines()))


@dataclass(frozen=True, slots=True)
class _Report:
    """What `stats` shows."""

    settings: Settings
    index: IndexFigures
    served: dict[str, Any]

    def data(self) -> dict[str, Any]:
        return {
            "cache": self.settings.cache,
            "entries": self.index.entries,
            "bytes": self.index.bytes,
            "max_bytes": self.settings.cache_max_bytes,
            "ttl_seconds": self.settings.cache_ttl,
            "oldest": _when(self.index.oldest_ns),
            "newest": _when(self.index.newest_ns),
            "hits": self.served["hits"],
            "provider_calls": self.served["asked"],
            "saved": self.served["saved"],
        }

    def lines(self) -> Iterator[str]:
        index, settings, served = self.index, self.settings, self.served
        yield f"{plural(index.entries, 'answer')}, {size(index.bytes)} of {size(settings.cache_max_bytes)}"
        if index.entries:
            yield f"from {brief_moment(_when(index.oldest_ns))} to {brief_moment(_when(index.newest_ns))}"
        saved = total_money(served["saved"], served["unknown"]) if served["hits"] else "nothing"
        yield f"{plural(served['hits'], 'call')} answered from the cache, {count(served['asked'])} by a provider; saved {saved}"
        if settings.cache != "on":
            yield f"the setting cache is {settings.cache} ({settings.sources['cache']}): calls do not use these answers"


@command.command("clear")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@store_option
def clear(*, yes: bool, as_json: bool, store: Path | None) -> None:
    """Remove all answers from the store's index; the history stays."""
    path = store_path(store)
    with opened_index(path) as index:
        if not yes and not as_json:
            click.confirm(f"Remove {plural(index.figures().entries, 'answer')} from {path}?", abort=True, err=True)
        removed = index.clear()
    if as_json:
        print_json([{"removed": removed}])
    else:
        click.echo(f"{plural(removed, 'answer')} removed")
    note("programs that run keep what they have in memory")


@command.command("rebuild")
@json_option
@store_option
def rebuild(*, as_json: bool, store: Path | None) -> None:
    """Fill the index from the history, which happens by itself when the index is missing or damaged."""
    from lmtrace_exporters import StoreError
    from lmtrace_replay._rebuild import rebuild

    path = store_path(store)
    with opened_index(path) as index:
        try:
            found = rebuild(path, index)
        except (StoreError, OSError) as error:
            raise EnvironmentFailure(str(error)) from None
        entries = index.figures().entries
    if as_json:
        print_json([{"rows": found, "entries": entries}])
    else:
        click.echo(f"{plural(found, 'row')} with an answer to keep, {plural(entries, 'answer')} in the index")


@contextmanager
def opened_index(store: Path) -> Iterator[Index]:
    """The index of `store`.

    Raises:
        Failure: it cannot be read or written.
    """
    from lmtrace_replay._index import Index
    from lmtrace_replay._open_cache import INDEX_NAME

    if not (store / "store.json").exists() and not (store / INDEX_NAME).exists():
        raise EnvironmentFailure(f"no store at {store}; name another with --store DIR")
    index = Index(store / INDEX_NAME, max_bytes=_settings().cache_max_bytes)
    try:
        yield index
    except sqlite3.Error as error:
        how = "remove it; it is made again from the history"
        raise EnvironmentFailure(f"{index.path} cannot be used: {error}; {how}") from None
    finally:
        index.close()


def _settings() -> Settings:
    with settings_errors():
        from lmtrace._settings import resolve

        return resolve()


def _when(nanoseconds: int | None) -> datetime | None:
    return None if nanoseconds is None else datetime.fromtimestamp(nanoseconds / 1e9, UTC)
