"""A user's command with our bootstrap in its Python: what `lmtrace run` and `lmtrace replay` have in common."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from lmtrace._cli._child import NOT_EXECUTABLE, NOT_FOUND, run_child
from lmtrace._cli._print import note

BOOTSTRAP = Path(__file__).parent / "_bootstrap"


def bootstrapped(folder: str) -> dict[str, str]:
    """The environment in which every Python runs the bootstrap first and leaves what it has to say in `folder`."""
    before = os.environ.get("PYTHONPATH")
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(BOOTSTRAP), *([before] if before else [])]),
        "LMTRACE_RUN_STATUS": folder,
    }


def run_program(program: tuple[str, ...], environ: Mapping[str, str], command: str) -> int:
    """Run it to its end and return its status; leave as a shell would when it cannot be started."""
    try:
        return run_child(program, environ)
    except FileNotFoundError:
        note(f"lmtrace: {program[0]}: command not found")
        sys.exit(NOT_FOUND)
    except OSError as error:
        hint = f"; did you mean: lmtrace {command} -- python {program[0]}" if program[0].endswith(".py") else ""
        note(f"lmtrace: {program[0]}: {error.strerror}{hint}")
        sys.exit(NOT_EXECUTABLE)
