"""``lmtrace config``: each setting, its value, and who says so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from lmtrace._cli._fail import settings_errors
from lmtrace._cli._filters import json_option
from lmtrace._cli._print import Column, print_json, print_table

MASK = "********"

_CREDENTIALS = re.compile(r"(://)[^/@\s]+@")


@click.command("config")
@json_option
def command(*, as_json: bool) -> None:
    """Show the settings that hold here.

    A value comes from the first that has one: lmtrace.configure(...) in the program, LMTRACE_* in the environment,
    [tool.lmtrace] in pyproject.toml, the user's config.toml, the default.
    """
    lines = settings()
    if as_json:
        print_json(lines)
    else:
        columns = [Column("setting"), Column("value"), Column("source", style="dim")]
        print_table(columns, [(line["setting"], _shown(line["value"]), line["source"]) for line in lines])


def settings() -> list[dict[str, Any]]:
    """Name, value and source of each setting; secrets are masked.

    Raises:
        Failure: a setting in the environment or a file is not valid.
    """
    with settings_errors():
        from lmtrace._settings import SECRET_SETTINGS, Settings, resolve

        active = resolve()
    return [
        {
            "setting": item.name,
            "value": _value(getattr(active, item.name), secret=item.name in SECRET_SETTINGS | {"redact"}),
            "source": active.sources[item.name],
        }
        for item in fields(Settings)
        if item.name != "sources"
    ]


def _value(value: Any, *, secret: bool) -> Any:
    if secret:
        return dict.fromkeys(value, MASK) if isinstance(value, Mapping) else [MASK] * len(value)
    if isinstance(value, str):
        return _CREDENTIALS.sub(rf"\1{MASK}@", value)
    if isinstance(value, frozenset | tuple):
        return sorted(map(str, value))
    return str(value) if isinstance(value, Path) else value


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, dict):
        return ", ".join(f"{name}={text}" for name, text in value.items()) or "-"
    return ", ".join(value) or "-" if isinstance(value, list) else str(value)
