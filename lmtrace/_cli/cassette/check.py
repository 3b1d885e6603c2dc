"""``lmtrace cassette check``: what is wrong with cassettes, before a test finds out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmtrace._cli._filters import json_option
from lmtrace._cli._print import note, print_json
from lmtrace._cli._text import plural
from lmtrace._cli.cassette._files import found
from lmtrace._visible import visible

if TYPE_CHECKING:
    from lmtrace_replay._format import Cassette


@click.command("check")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True), metavar="FILE|DIR …")
@click.option("--strict", is_flag=True, help="Fail for outdated cassettes, too.")
@json_option
@click.pass_context
def command(ctx: click.Context, *, paths: tuple[Path, ...], strict: bool, as_json: bool) -> None:
    """Check cassettes: damaged, edited, of a newer format, holding credentials, or recorded with other versions.

    The exit code is 1 for what no test could use; with --strict also for what another DSPy or LiteLLM recorded.
    """
    files = found(paths)
    problems = [problem for path in files for problem in _problems(path)]
    if as_json:
        print_json(problems)
    else:
        for problem in problems:
            click.echo(visible(f"{problem['kind']}: {problem['message']}"))
    bad = sum(strict or problem["kind"] != "outdated" for problem in problems)
    note(f"{plural(len(files), 'cassette')} checked, {plural(len(problems), 'problem')}")
    ctx.exit(1 if bad else 0)


def _problems(path: Path) -> Iterator[dict[str, Any]]:
    from lmtrace_replay._cassette import load
    from lmtrace_replay._errors import CassetteError, CassetteSecretError, CassetteTamperedError, CassetteVersionError
    from lmtrace_replay._scan import refuse_secrets

    kinds = {CassetteTamperedError: "edited", CassetteVersionError: "newer", CassetteSecretError: "secret"}
    try:
        cassette = load(path)
        yield from (
            {"path": str(path), "kind": "outdated", "message": message} for message in _outdated(cassette, path)
        )
        refuse_secrets(cassette.recordings, str(path))
    except CassetteError as error:
        yield {"path": str(path), "kind": kinds.get(type(error), "damaged"), "message": _said(error)}


def _said(error: Exception) -> str:
    return str(error).replace("was not written, because it would hold", "holds")


def _outdated(cassette: Cassette, path: Path) -> Iterator[str]:
    """Packages that were of another minor version when the cassette was recorded: prompts may have changed."""
    from lmtrace_replay._header import PACKAGES, installed

    for name in PACKAGES:
        recorded, here = cassette.header.versions.get(name), installed(name)
        if recorded is not None and here is not None and _minor(recorded) != _minor(here):
            yield f"{path} was recorded with {name} {recorded}, installed is {here}; if tests miss, record it again"


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
