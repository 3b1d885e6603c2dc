"""``lmtrace why``: why a request had no recorded answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lmtrace._cli._fail import EnvironmentFailure, NotFoundFailure, UsageFailure, nearest
from lmtrace._cli._filters import json_option, store_option
from lmtrace._cli._print import note, print_json
from lmtrace._cli._store import opened, rows
from lmtrace._cli.cassette._files import cassette_errors, read

if TYPE_CHECKING:
    from lmtrace_replay import Miss
    from lmtrace_replay._recording import Recording

EXAMPLES = """
    \b
    lmtrace why --last
    lmtrace why 0193a000 --against tests/__snapshots__/test_rag/test_answer.cassette
"""


@click.command("why", epilog=EXAMPLES)
@click.argument("call", required=False, metavar="[CALL]")
@click.option("--last", is_flag=True, help="The misses of the last replay that had some.")
@click.option(
    "--against", type=click.Path(path_type=Path), metavar="FILE", help="The cassette that should answer CALL."
)
@json_option
@store_option
@click.pass_context
def command(
    ctx: click.Context, *, call: str | None, last: bool, against: Path | None, as_json: bool, store: Path | None
) -> None:
    """Say why a replay had no answer: what is recorded nearest, what differs, and what to do.

    CALL is the id of a recorded call, or its start or end. The exit code is 1 if something is missing.
    """
    if last == (call is not None) or (call is not None and against is None):
        raise UsageFailure("ask for --last, or for a CALL --against a cassette")
    misses = _last() if call is None or against is None else _against(call, against, store)
    if as_json:
        print_json(miss.to_wire() for miss in misses)
    elif misses:
        from lmtrace_replay._report import report

        click.echo(report(misses))
    ctx.exit(1 if misses else 0)


def _last() -> tuple[Miss, ...]:
    from lmtrace_replay._last import last_misses

    try:
        misses = last_misses()
    except (ValueError, OSError) as error:
        raise EnvironmentFailure(str(error)) from None
    if not misses:
        note("no replay has missed anything yet")
    return misses


def _against(call: str, path: Path, store: Path | None) -> tuple[Miss, ...]:
    cassette = read(path)
    asked = _recording(call, store)
    from lmtrace_replay._explain import explain

    key = asked.key()
    numbers = [number for number, one in enumerate(cassette.recordings, 1) if _answers(one, asked, key)]
    if numbers:
        note(f"{path} answers it: call {', '.join(map(str, numbers))}")
        return ()
    return (explain(asked.request, cassette.recordings, key=key, where=str(path), path=asked.path, scope=asked.scope),)


def _answers(recorded: Recording, asked: Recording, key: str) -> bool:
    return recorded.request_key == key and recorded.rollout_id == asked.rollout_id


def _recording(call: str, store: Path | None) -> Recording:
    """The recording of one call of the store.

    Raises:
        Failure: there is none, or several, or it holds no content.
    """
    from lmtrace_replay._sources import of_history

    with opened(store) as history:
        query = "SELECT uuid FROM calls WHERE starts_with(uuid, ?) OR ends_with(uuid, ?) ORDER BY timestamp LIMIT 5"
        ids = [row["uuid"] for row in rows(history, query, [call, call])]
        if not ids:
            known = [row["uuid"] for row in rows(history, "SELECT uuid FROM calls ORDER BY timestamp DESC LIMIT 1000")]
            raise NotFoundFailure(f"no call {call!r}{nearest(call, known)}")
        if len(ids) > 1 and call not in ids:
            raise UsageFailure(f"several calls: {', '.join(ids)}; give more of the id")
        with cassette_errors():
            found = of_history(history, "uuid = ?", [call if call in ids else ids[0]])
    if not found:
        raise NotFoundFailure(f"the call {call!r} ended without an answer or an error of the provider")
    return found[0]
