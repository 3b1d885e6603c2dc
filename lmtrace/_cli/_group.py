"""A click group that imports a command's module when the command is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from keyword import iskeyword
from typing import Any

import click

from lmtrace._cli._fail import nearest


class LazyGroup(click.Group):
    """Commands by name, each the attribute `command` of the module of the same name in `package` (see `_module`)."""

    def __init__(self, *, package: str, commands: Mapping[str, str], **options: Any) -> None:
        super().__init__(**options, context_settings={"help_option_names": ["-h", "--help"]})
        self._package = package
        self._summaries = commands
        self.params.append(_version_option())

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._summaries:
            return None
        command: click.Command = importlib.import_module(f"{self._package}.{_module(cmd_name)}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self._summaries and not args[0].startswith("-"):
            raise click.UsageError(f"No such command {args[0]!r}{nearest(args[0], self._summaries)}.", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self._summaries.items()))


def _module(command: str) -> str:
    """``rebuild_index`` for ``rebuild-index``, ``import_`` for ``import``."""
    name = command.replace("-", "_")
    return f"{name}_" if iskeyword(name) else name


def _version_option() -> click.Option:
    return click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
    )


def _version(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001  # click's signature
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"lmtrace {version('lmtrace')}")
        ctx.exit()
