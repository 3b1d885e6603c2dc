"""``lmtrace gc``: forget old history, by age or by size."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmtrace._cli._fail import EnvironmentFailure, UsageFailure
from lmtrace._cli._filters import json_option, store_option
from lmtrace._cli._print import note, print_json
from lmtrace._cli._store import existing_store
from lmtrace._cli._text import plural, size
from lmtrace._cli._times import Moment

if TYPE_CHECKING:
    from lmtrace_exporters import RetentionReport

GRACE_SECONDS = 300.0
"""How long a reader may have a file open that is to be deleted."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?|[kmg]i)b?", re.IGNORECASE)

EXAMPLES = """
    \b
    lmtrace gc --older-than 30d --dry-run
    lmtrace gc --older-than 30d --max-size 1GB --keep-tag golden --keep-tag exp=baseline
"""


class Size(click.ParamType[int]):
    """An option that is a number of bytes."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no size; write 500MB, 1GB or 2GiB")
        return int(float(match[1]) * _UNITS[match[2].lower()])


@click.command("gc", epilog=EXAMPLES)
@click.option("--older-than", type=Moment(), help="Forget days that ended before then: 30d, 12w, 2026-11-01.")
@click.option("--max-size", type=Size(), help="Forget the oldest days until the store is not larger: 500MB, 1GB.")
@click.option(
    "--keep-tag", "tags", multiple=True, metavar="NAME[=VALUE]", help="Keep rows with this tag for ever; repeatable."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be forgotten.")
@click.option("--now", is_flag=True, help="Delete files at once, not minutes later when no reader can have them open.")
@json_option
@store_option
def command(
    *,
    older_than: datetime | None,
    max_size: int | None,
    tags: tuple[str, ...],
    dry_run: bool,
    now: bool,
    as_json: bool,
    store: Path | None,
) -> None:
    """Forget whole days of history, safely beside programs that record and commands that read.

    Days are in UTC; today is never forgotten.
    """
    if older_than is None and max_size is None:
        raise UsageFailure("say what to forget: --older-than 30d, --max-size 1GB, or both")
    path = existing_store(store)
    from lmtrace_exporters import StoreError, collect_garbage

    try:
        report = collect_garbage(
            path,
            before=older_than,
            max_bytes=max_size,
            keep_tags=_tags(tags),
            dry_run=dry_run,
            grace_seconds=0.0 if now else GRACE_SECONDS,
        )
    except (StoreError, OSError) as error:
        raise EnvironmentFailure(str(error)) from None
    forgotten = 0 if dry_run else _forget_answers(path, report)
    if as_json:
        print_json([asdict(report) | {"answers": forgotten}])
        return
    _print(report)
    if forgotten:
        click.echo(f"forgot {plural(forgotten, 'answer')} of the cache")
    if report.bytes and not (dry_run or now):
        note("the files are deleted by the next gc or compaction after five minutes; at once with --now")
    if max_size is not None and report.left_bytes > max_size:
        note(f"still larger than {size(max_size)}: today's calls, open journals and kept rows stay")


def _forget_answers(store: Path, report: RetentionReport) -> int:
    """Remove the answers of forgotten days from the index of the cache; how many that were."""
    if not report.days:
        return 0
    import sqlite3

    from lmtrace_replay._open_cache import open_index

    end = datetime.fromisoformat(report.days[-1]).replace(tzinfo=UTC) + timedelta(days=1)
    index = open_index(store)
    try:
        return index.forget_before(int(end.timestamp()) * 1_000_000_000)
    except sqlite3.Error as error:
        note(f"the answers of the cache could not be forgotten: {error}; `lmtrace cache clear` removes all")
        return 0
    finally:
        index.close()


def _print(report: RetentionReport) -> None:
    if not report.ran:
        note("a compaction is running; try again when it has ended")
        return
    if not report.days:
        note(f"nothing to forget; the store has {size(report.left_bytes)}")
        return
    verb = "would forget" if report.dry_run else "forgot"
    period = report.days[0] if len(report.days) == 1 else f"{report.days[0]} to {report.days[-1]}"
    kept = f", kept {plural(report.kept, 'row')} for their tags" if report.kept else ""
    click.echo(
        f"{verb} {plural(report.rows, 'row')} of {plural(len(report.days), 'day')} ({period}), "
        f"{size(report.bytes)} of files{kept}; {size(report.left_bytes)} left"
    )


def _tags(texts: tuple[str, ...]) -> dict[str, str | None]:
    tags: dict[str, str | None] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name:
            raise UsageFailure(f"{text!r} is no tag: write --keep-tag NAME or --keep-tag NAME=VALUE")
        tags[name] = value if equals else None
    return tags
