"""``lmtrace replay CASSETTE -- CMD``: run a program offline, with recorded answers, or record the cassette anew.

The command is started like that of ``lmtrace run``. What turns replay on in it is a file in a private folder, which only
the bootstrap looks for: no environment variable does. A Python that cannot replay is ended before its first line, because
it would ask a provider. Each process says in the folder what it was answered and what it missed.
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmtrace._cli._child import leave_like
from lmtrace._cli._fail import EnvironmentFailure, UsageFailure
from lmtrace._cli._print import note
from lmtrace._cli._program import bootstrapped, run_program
from lmtrace._cli._status import Processes
from lmtrace._cli._text import plural, ranges
from lmtrace._visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lmtrace_replay._format import Cassette
    from lmtrace_replay._program import Outcome

MODES = ("replay", "record-missing", "rewrite", "verify", "live")


@click.command("replay")
@click.option(
    "--mode", type=click.Choice(MODES), default="replay", show_default=True, help="What to do with a request."
)
@click.option(
    "--allow", multiple=True, metavar="HOST", help="A host, host:port or 'loopback' it may connect to; repeatable."
)
@click.option("--rollouts", type=click.Choice(("exact", "ordinal", "ignore")), default="exact", show_default=True)
@click.option("--order", type=click.Choice(("any", "strict")), default="any", show_default=True)
@click.option(
    "--normalisers",
    multiple=True,
    metavar="NAME",
    help="What is made equal before requests are compared: dates, uuids, folders, or package.module:function; repeatable.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask before recording again.")
@click.option("-q", "--quiet", is_flag=True, help="No summary; misses are reported anyway.")
@click.argument("cassette", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("program", nargs=-1, type=click.UNPROCESSED, required=True, metavar="-- CMD...")
def command(
    *,
    cassette: Path,
    program: tuple[str, ...],
    mode: str,
    allow: tuple[str, ...],
    rollouts: str,
    order: str,
    normalisers: tuple[str, ...],
    yes: bool,
    quiet: bool,
) -> None:
    """Run a program with recorded answers, for example `lmtrace replay bug.cassette -- python app.py`.

    Connections are refused meanwhile. Exits like the program, and with 1 if it did not fail but a request had no answer, or
    a live answer (--mode verify) is not what was recorded.
    """
    _check(normalisers)
    before = _load(cassette, must_exist=mode in ("replay", "verify"))
    if mode == "rewrite" and before is not None and not yes:
        _confirm(before)
    path = cassette.expanduser().absolute()
    settings = {
        "cassette": str(path),
        "shown": str(cassette),
        "fix": f"lmtrace replay --mode {'rewrite' if before else 'record-missing'} {cassette} -- {shlex.join(program)}",
        "mode": mode,
        "allow": allow,
        "rollouts": rollouts,
        "order": order,
        "normalisers": normalisers,
    }
    with tempfile.TemporaryDirectory(prefix="lmtrace-replay-") as folder:
        Path(folder, "replay.json").write_text(json.dumps(settings), encoding="utf-8")
        code = run_program(program, bootstrapped(folder), f"replay {cassette}")
        kept = None if mode == "rewrite" else before
        outcome = _outcome(Path(folder), kept)
    if mode in ("record-missing", "rewrite"):
        _record(path, outcome, code, kept)
    for line in _reports(outcome, quiet=quiet, unused=_unused(cassette, outcome, code, mode, before)):
        note(line)
    leave_like(code or int(bool(outcome.misses or outcome.regressions)))


def _check(normalisers: tuple[str, ...]) -> None:
    """Refuse what cannot be the name of a normaliser; whether there is a function of that name, the program's Python knows.

    Raises:
        UsageFailure: one is none.
    """
    from lmtrace_replay._patterns import NORMALISERS, is_name

    for name in normalisers:
        if not is_name(name):
            raise UsageFailure(
                f"{name!r} is no normaliser: name one of {', '.join(NORMALISERS)}, or package.module:function"
            )


def _reports(outcome: Outcome, *, quiet: bool, unused: str | None) -> Iterator[str]:
    """What to say when the program has ended: what is wrong anyway, and the rest unless it is to be quiet."""
    report = outcome.report()
    if report is not None:
        yield report
    if outcome.regressions:
        yield f"{plural(len(outcome.regressions), 'live answer')} not as recorded:"
        yield from (visible(f"  {line}") for line in outcome.regressions)
    if not quiet:
        yield from outcome.tally.lines()
        if unused is not None:
            yield unused


def _unused(shown: Path, outcome: Outcome, code: int, mode: str, cassette: Cassette | None) -> str | None:
    """What to say of recordings that nothing has asked for, after a program that has come to its end."""
    if cassette is None or mode not in ("replay", "verify") or code or outcome.misses:
        return None
    left = sorted(set(range(1, len(cassette.recordings) + 1)) - outcome.served)
    if not left:
        return None
    outcome.tally.unused = len(left)
    what = f"{shlex.quote(str(shown))} --calls {ranges(left)}"
    return (
        f"lmtrace: the program does not ask for all that is recorded; take out the rest: lmtrace cassette prune {what}"
    )


def _load(path: Path, *, must_exist: bool) -> Cassette | None:
    from lmtrace_replay._cassette import load
    from lmtrace_replay._errors import CassetteError

    if not must_exist and not path.exists():
        return None
    try:
        return load(path)
    except CassetteError as error:
        raise EnvironmentFailure(str(error)) from None


def _confirm(cassette: Cassette) -> None:
    """Ask before money is spent.

    Raises:
        UsageFailure: there is nobody to ask.
    """
    from lmtrace._cli._text import total_money

    costs = [None if one.response is None else one.response.cost for one in cassette.recordings]
    price = total_money(sum(cost for cost in costs if cost is not None), costs.count(None))
    question = f"{plural(len(costs), 'recorded call')} cost {price} last time; ask the provider again?"
    if not sys.stdin.isatty():
        raise UsageFailure(f"{question} Say so with --yes.")
    click.confirm(question, abort=True, err=True)


def _outcome(folder: Path, before: Cassette | None) -> Outcome:
    """What the processes say.

    Raises:
        EnvironmentFailure: there is none, so nothing was replayed.
    """
    from lmtrace_replay._program import Outcome

    processes = Processes.read(folder)
    if not processes.said:
        raise EnvironmentFailure(f"nothing was replayed: {processes.why_nothing()}")
    return Outcome.read(folder, () if before is None else before.recordings)


def _record(path: Path, outcome: Outcome, code: int, before: Cassette | None) -> None:
    """Write what was recorded, if the program did not fail.

    Raises:
        EnvironmentFailure: it cannot be written.
    """
    from lmtrace_replay._cassette import save
    from lmtrace_replay._errors import CassetteError
    from lmtrace_replay._header import current_header

    if code or outcome.misses:
        note(f"lmtrace: the program failed, so {path.name} stays as it was")
        return
    outcome.tally.cancelled = len(outcome.cancelled)
    if not (outcome.recordings or outcome.cancelled):
        return
    kept = [*(before.recordings if before is not None else ()), *outcome.recordings]
    cancelled = {*(before.header.cancelled if before is not None else ()), *outcome.cancelled}
    try:
        save(path, kept, current_header(kept, cancelled))
        outcome.tally.recorded, outcome.tally.live = outcome.tally.live, 0
    except CassetteError as error:
        raise EnvironmentFailure(str(error)) from None
