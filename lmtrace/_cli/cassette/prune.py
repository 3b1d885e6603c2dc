"""``lmtrace cassette prune``: calls out of a cassette."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmtrace._cli._fail import NotFoundFailure, UsageFailure
from lmtrace._cli._filters import json_option
from lmtrace._cli._print import note, print_json
from lmtrace._cli._text import plural
from lmtrace._cli.cassette._files import facts, read, secrets_option, write

if TYPE_CHECKING:
    from lmtrace_replay._recording import Recording

EXAMPLES = """
    \b
    lmtrace cassette prune bug.cassette --calls 3,7-9
    lmtrace cassette prune bug.cassette --model gpt-4o --dry-run
"""


@click.command("prune", epilog=EXAMPLES)
@click.argument("cassette", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--calls", "numbers", metavar="NUMBERS", help="These, as `ls` numbers them: 3,7-9.")
@click.option("-m", "--model", metavar="NAME", help="Those of this model, with or without its provider.")
@click.option("--scope", metavar="PATH", help="Those from this part of the program.")
@click.option("--errors", is_flag=True, help="Those that failed.")
@click.option("--dry-run", is_flag=True, help="Only list what would go.")
@secrets_option
@json_option
def command(
    *,
    cassette: Path,
    numbers: str | None,
    model: str | None,
    scope: str | None,
    errors: bool,
    dry_run: bool,
    allow_secrets: bool,
    as_json: bool,
) -> None:
    """Take calls out of a cassette: those that fit every option given.

    Calls that no test asks for any more are found by pytest: `pytest --snapshot-update` trims them.
    """
    tests = _tests(numbers, model, scope, errors=errors)
    if not tests:
        raise UsageFailure("say which calls: --calls, --model, --scope or --errors")
    loaded = read(cassette)
    numbered = list(enumerate(loaded.recordings, 1))
    gone = [(number, one) for number, one in numbered if all(test(number, one) for test in tests)]
    if not gone:
        raise NotFoundFailure(f"no call in {cassette} fits; see: lmtrace cassette ls {cassette}")
    if as_json:
        print_json(facts(number, one) for number, one in gone)
    if not dry_run:
        taken = {number for number, _ in gone}
        write(cassette, [one for number, one in numbered if number not in taken], loaded.header, scan=not allow_secrets)
    note(f"{'would take' if dry_run else 'took'} {plural(len(gone), 'call')} of {len(numbered):,} out of {cassette}")


def _tests(
    numbers: str | None, model: str | None, scope: str | None, *, errors: bool
) -> list[Callable[[int, Recording], bool]]:
    tests: list[Callable[[int, Recording], bool]] = []
    if numbers is not None:
        chosen = _numbers(numbers)
        tests.append(lambda number, one: number in chosen)
    if model is not None:
        tests.append(lambda number, one: one.request.model == model or one.request.model.endswith(f"/{model}"))
    if scope is not None:
        tests.append(lambda number, one: f"{one.scope or ''}.".startswith(f"{scope}."))
    if errors:
        tests.append(lambda number, one: one.error is not None)
    return tests


def _numbers(text: str) -> set[int]:
    """The numbers in ``3,7-9``.

    Raises:
        Failure: it is no such list.
    """
    chosen: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.strip().isdecimal() or (dash and not last.strip().isdecimal()) or len(part) > 20:
            raise UsageFailure(f"{text!r} are no numbers of calls; write 3,7-9")
        start = int(first)
        chosen.update(range(start, min(int(last), start + 1_000_000) + 1) if dash else [start])
    return chosen
