"""``lmtrace run -- CMD``: record a program that knows nothing of lmtrace.

A folder with a `sitecustomize` is put first on PYTHONPATH, so every Python the command starts turns recording on before
its first line; nothing of the command itself is touched. All its calls belong to one run, which is summed up in one line
on stderr when it ends. No call at all is a warning that says why.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import click

from lmtrace._cli._child import leave_like
from lmtrace._cli._fail import Failure, settings_errors
from lmtrace._cli._filters import store_option
from lmtrace._cli._print import note
from lmtrace._cli._program import bootstrapped, run_program
from lmtrace._cli._status import Processes
from lmtrace._cli._summary import summary


def _tags(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for key, equals, _ in pairs:
        if not key or not equals:
            raise click.BadParameter("write it as name=value", ctx, param)
    return {key: value for key, _, value in pairs}


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.option("--name", help="What to call the run; the program's name by default.")
@click.option(
    "tags",
    "-t",
    "--tag",
    multiple=True,
    callback=_tags,
    metavar="KEY=VALUE",
    help="Stored with every call; repeatable.",
)
@click.option("-q", "--quiet", is_flag=True, help="No summary; warnings still come.")
@click.argument("program", nargs=-1, type=click.UNPROCESSED, required=True, metavar="-- CMD...")
@store_option
def command(
    *, name: str | None, tags: Mapping[str, str], quiet: bool, program: tuple[str, ...], store: Path | None
) -> None:
    """Record a program as it is, for example `lmtrace run -- python app.py`.

    Its output, input, signals and exit status are untouched.
    """
    from lmtrace._ids import Uuid7

    with settings_errors():
        from lmtrace._settings import resolve

        target = store.expanduser().absolute() if store is not None else resolve().store
    run_id = Uuid7()()
    with tempfile.TemporaryDirectory(prefix="lmtrace-run-") as folder:
        environ = _environ(run_id, name or _name_of(program), tags, target, folder)
        started, began = time.time(), time.monotonic()
        code = run_program(program, environ, "run")
        elapsed = time.monotonic() - began
        processes = Processes.read(Path(folder))
    try:
        line, fine = summary(target, run_id, processes, started, elapsed)
    except Failure as failure:  # the program has run; what became of its history must not change how it ends
        line, fine = f"lmtrace: {failure.message}", False
    if not (quiet and fine):
        note(line)
    leave_like(code)


def _environ(run_id: str, name: str, tags: Mapping[str, str], store: Path | None, folder: str) -> dict[str, str]:
    return bootstrapped(folder) | {
        "LMTRACE_RUN_ID": run_id,
        "LMTRACE_RUN_NAME": name,
        "LMTRACE_RUN_TAGS": json.dumps(tags),
        "LMTRACE_STORE": "off" if store is None else str(store),
    }


def _name_of(program: tuple[str, ...]) -> str:
    """``app.py`` of ``python -u app.py --fast``, ``pkg.cli`` of ``python -m pkg.cli``, else the command."""
    first = Path(program[0]).name
    if not first.startswith("python"):
        return first
    words = list(program[1:])
    if "-m" in words[:-1]:
        return words[words.index("-m") + 1]
    return next((Path(word).name for word in words if not word.startswith("-")), first)
