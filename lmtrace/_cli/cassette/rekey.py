"""``lmtrace cassette rekey``: accept edited requests, and write files as this version does."""

from __future__ import annotations

from pathlib import Path

import click

from lmtrace._cli._filters import json_option
from lmtrace._cli._print import note, print_json
from lmtrace._cli.cassette._files import found, read, secrets_option, write


@click.command("rekey")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True), metavar="FILE|DIR …")
@secrets_option
@json_option
def command(*, paths: tuple[Path, ...], allow_secrets: bool, as_json: bool) -> None:
    """Compute the keys in cassettes anew, for requests that were edited by hand, and order the file as it should be.

    Look at the edit first: a key protects a cassette from being changed unnoticed.
    """
    for path in found(paths):
        cassette = read(path, trust_keys=True)
        changed = write(path, cassette.recordings, cassette.header, scan=not allow_secrets)
        if as_json:
            print_json([{"path": str(path), "changed": changed}])
        else:
            note(f"{path}: {'written anew' if changed else 'as it should be'}")
