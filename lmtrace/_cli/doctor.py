"""``lmtrace doctor``: is everything as recording needs it? Red things make the exit code 3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from lmtrace._cli import _checks
from lmtrace._cli._checks import Finding
from lmtrace._cli._filters import json_option, store_option
from lmtrace._cli._print import console, print_json, text

MARKS = {"ok": ("✓", "green"), "note": ("·", "dim"), "warning": ("!", "yellow"), "error": ("✗", "red")}

ENVIRONMENT = 3


@click.command("doctor")
@json_option
@store_option
def command(*, as_json: bool, store: Path | None) -> None:
    """Check the store, the settings, the OTLP endpoint and what is installed."""
    findings = list(_findings(store))
    if as_json:
        print_json({"check": item.check, "state": item.state, "message": item.message} for item in findings)
    else:
        printer = console()
        width = max(len(item.check) for item in findings)
        for item in findings:
            mark, style = MARKS[item.state]
            line = text(f"{mark} {item.check:<{width}} ", style)
            line.append_text(text(item.message))
            printer.print(line, soft_wrap=True)
    if any(item.state == "error" for item in findings):
        raise SystemExit(ENVIRONMENT)


def _findings(store: Path | None) -> Iterator[Finding]:
    settings = _checks.settings(store)
    yield from settings.findings
    if settings.store is not None:
        yield from _checks.store(settings.store)
    yield from _checks.telemetry(settings)
    yield from _checks.packages()
    yield from _checks.environment()
