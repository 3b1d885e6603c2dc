"""Runs programs in forks of one process that has imported what takes seconds: modules named first, with commas between.

Every program gets a working directory and a store of its own. Prints, as JSON, the exit status and the output of each.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
import tempfile
import traceback
from pathlib import Path


def run(program: str) -> tuple[int, str]:
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder, "printed")
        child = os.fork()
        if child == 0:
            become(program, Path(folder), printed)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status), printed.read_text(encoding="utf-8")


def become(program: str, folder: Path, printed: Path) -> None:
    """Run the program as a fresh interpreter would, and never return."""
    target = os.open(printed, os.O_CREAT | os.O_WRONLY, 0o600)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.chdir(folder)
    os.environ["LMTRACE_STORE"] = str(folder / "store")
    sys.path[0] = str(Path(program).parent)
    status = 0
    try:
        runpy.run_path(program, run_name="__main__")
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    for module in sys.argv[1].split(","):
        importlib.import_module(module)
    print(json.dumps({program: run(program) for program in sys.argv[2:]}))
