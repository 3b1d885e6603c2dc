"""``lmtrace search TEXT``: calls whose prompt, answer or error holds a text."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from lmtrace._cli._fail import NotFoundFailure, UsageFailure
from lmtrace._cli._filters import Filters, filter_options, json_option, limit_option, store_option
from lmtrace._cli._print import console, note, print_json, text
from lmtrace._cli._rows import SHOWN, called_tools, error_line, price, short_model
from lmtrace._cli._store import Row, holding, opened
from lmtrace._cli._text import message_text, moment, one_line, short_id

AROUND = 60
"""Characters shown on either side of what was found."""

_PLACES = ("prompt", "answer", "error")


@click.command("search")
@click.argument("wanted", metavar="TEXT")
@click.option("--in", "places", type=click.Choice(_PLACES), multiple=True, help="Look only there; repeatable.")
@click.option("-E", "--regex", is_flag=True, help="TEXT is a regular expression.")
@click.option("-c", "--case", is_flag=True, help="Upper and lower case differ.")
@limit_option(20)
@filter_options
@json_option
@store_option
def command(
    *,
    wanted: str,
    places: tuple[str, ...],
    regex: bool,
    case: bool,
    limit: int,
    filters: Filters,
    as_json: bool,
    store: Path | None,
) -> None:
    """Find calls by what was said in them, the newest at the end."""
    pattern = _pattern(wanted, regex=regex, case=case)
    chosen = places or _PLACES
    with opened(store, filters) as history:
        how = {"places": chosen, "regex": regex, "case": case, "columns": "*" if as_json else SHOWN}
        found = holding(history, filters, limit, wanted, **how)
    if not found:
        raise NotFoundFailure(f"no call holds {wanted!r} in its {', '.join(chosen)}")
    if as_json:
        print_json(found)
        return
    for row in found:
        _print_hit(row, pattern, chosen)
    if limit and len(found) == limit:
        note(f"the newest {limit}; more with -n")


def _pattern(wanted: str, *, regex: bool, case: bool) -> re.Pattern[str]:
    try:
        return re.compile(wanted if regex else re.escape(wanted), 0 if case else re.IGNORECASE)
    except re.error as error:
        raise UsageFailure(f"{wanted!r} is no regular expression: {error}") from None


def _print_hit(row: Row, pattern: re.Pattern[str], places: tuple[str, ...]) -> None:
    printer = console()
    head = f"{moment(row['timestamp'])}  {short_id(row['uuid'])}  {short_model(row['model'])}  {price(row)}"
    printer.print(text(head, "dim"))
    for (label, excerpt), times in Counter(_excerpts(row, pattern, places)).items():
        shown = text(f"  {label}{f' ×{times}' if times > 1 else ''}: {excerpt}")
        shown.highlight_regex(pattern, "bold yellow")
        printer.print(shown, no_wrap=True, overflow="ellipsis")


def _excerpts(row: Row, pattern: re.Pattern[str], places: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Where the text stands first in each message, and who said that; demos of DSPy repeat each other."""
    for label, whole in _texts(row, places):
        match = pattern.search(whole)
        if match is not None:
            start, end = max(0, match.start() - AROUND), match.end() + AROUND
            yield label, f"{'…' * (start > 0)}{one_line(whole[start:end])}{'…' * (end < len(whole))}"


def _texts(row: Row, places: tuple[str, ...]) -> list[tuple[str, str]]:
    """What a person would read in the places, with a label for each."""
    found: list[tuple[str, str]] = []
    if "prompt" in places:
        messages = row["messages"] if isinstance(row["messages"], list) else [row["messages"] or row["prompt"]]
        for item in messages:
            role = str(item.get("role", "prompt")) if isinstance(item, dict) else "prompt"
            found.append((role, message_text(item.get("content", item) if isinstance(item, dict) else item)))
    if "answer" in places:
        found.append(
            ("answer", row["output_text"] or called_tools(row) or json.dumps(row["outputs"], ensure_ascii=False))
        )
    if "error" in places and row["error_type"]:
        found.append(("error", error_line(row)))
    return found
