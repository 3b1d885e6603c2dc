"""``lmtrace cassette merge``: one cassette of several."""

from __future__ import annotations

from pathlib import Path

import click

from lmtrace._cli._filters import json_option
from lmtrace._cli._print import note, print_json
from lmtrace._cli._text import plural
from lmtrace._cli.cassette._files import check_target, found, read, secrets_option, target_option, write
from lmtrace._cli.cassette.stat import summary


@click.command("merge")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True), metavar="FILE|DIR …")
@target_option
@secrets_option
@json_option
def command(*, paths: tuple[Path, ...], output: Path, force: bool, allow_secrets: bool, as_json: bool) -> None:
    """Write the calls of several cassettes to one; a call that several hold is there once."""
    check_target(output, force=force)
    cassettes = [read(path) for path in found(paths)]
    from lmtrace_replay._merge import merged, merged_header

    recordings = merged([cassette.recordings for cassette in cassettes])
    write(output, recordings, merged_header([cassette.header for cassette in cassettes]), scan=not allow_secrets)
    if as_json:
        print_json([summary(output)])
    else:
        note(f"{plural(len(recordings), 'call')} of {plural(len(cassettes), 'cassette')} in {output}")
