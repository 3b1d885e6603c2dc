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

if TYPE_CHECKING:
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
    yes: bool,
    quiet: bool,
) -> None:
    """Run a program with recorded answers, for example `lmtrace replay bug.cassette -- python app.py`.

    Connections are refused meanwhile. Exits like the program, and with 1 if it did not fail but a request had no answer.
    """
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
    }
    with tempfile.TemporaryDirectory(prefix="lmtrace-replay-") as folder:
        Path(folder, "replay.json").write_text(json.dumps(settings), encoding="utf-8")
        code = run_program(program, bootstrapped(folder), f"replay {cassette}")
        outcome = _outcome(Path(folder))
    if mode in ("record-missing", "rewrite"):
        _record(path, outcome, code, before if mode == "record-missing" else None)
    report = outcome.report()
    if report is not None:
        note(report)
    for line in () if quiet else outcome.tally.lines():
        note(line)
    leave_like(code or int(bool(outcome.misses)))


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
    from lmtrace._cli._text import plural, total_money

    costs = [None if one.response is None else one.response.cost for one in cassette.recordings]
    price = total_money(sum(cost for cost in costs if cost is not None), costs.count(None))
    question = f"{plural(len(costs), 'recorded call')} cost {price} last time; ask the provider again?"
    if not sys.stdin.isatty():
        raise UsageFailure(f"{question} Say so with --yes.")
    click.confirm(question, abort=True, err=True)


def _outcome(folder: Path) -> Outcome:
    """What the processes say.

    Raises:
        EnvironmentFailure: there is none, so nothing was replayed.
    """
    from lmtrace_replay._program import Outcome

    processes = Processes.read(folder)
    if not processes.said:
        raise EnvironmentFailure(f"nothing was replayed: {processes.why_nothing()}")
    return Outcome.read(folder)


def _record(path: Path, outcome: Outcome, code: int, before: Cassette | None) -> None:
    """Write what was recorded, if the program did not fail.

    Raises:
        EnvironmentFailure: it cannot be written.
    """
    from lmtrace_replay._cassette import save
    from lmtrace_replay._errors import CassetteError

    if code or outcome.misses:
        note(f"lmtrace: the program failed, so {path.name} stays as it was")
        return
    if not outcome.recordings:
        return
    try:
        save(path, [*(before.recordings if before is not None else ()), *outcome.recordings])
        outcome.tally.recorded, outcome.tally.live = outcome.tally.live, 0
    except CassetteError as error:
        raise EnvironmentFailure(str(error)) from None
