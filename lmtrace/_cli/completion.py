"""``lmtrace completion SHELL``: the script that teaches a shell the commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from lmtrace._cli._fail import UsageFailure


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, *, shell: str) -> None:
    r"""Print the completion script for a shell.

    \b
    eval "$(lmtrace completion bash)"                              in ~/.bashrc
    eval "$(lmtrace completion zsh)"                               in ~/.zshrc
    lmtrace completion fish > ~/.config/fish/completions/lmtrace.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise UsageFailure(f"click knows no completion for {shell}")
    click.echo(kind(ctx.find_root().command, {}, "lmtrace", "_LMTRACE_COMPLETE").source())
