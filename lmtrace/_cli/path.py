"""``lmtrace path``: where the store is, for scripts."""

from __future__ import annotations

from pathlib import Path

import click

from lmtrace._cli._filters import store_option
from lmtrace._cli._store import store_path


@click.command("path")
@store_option
def command(*, store: Path | None) -> None:
    """Print the folder of the store, whether or not it exists yet."""
    click.echo(store_path(store))
