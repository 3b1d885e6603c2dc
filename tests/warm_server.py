"""Runs programs in forks of one process that has imported what takes seconds: the modules named first, with commas between.

An order is a line of JSON on standard input: what one would write behind `python`, the working directory, the
environment and what is to be typed. The answer is one too: exit status and output. A fork goes on as a fresh interpreter
would, and ends as one: threads are waited for, exit handlers run; only taking the modules apart is left out, as the fork
would have to copy them all for that.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from types import ModuleType
from typing import IO, Any


def serve() -> list[str]:
    """Carry orders out until there are no more; returns only in a fork, with the words of its order."""
    while line := sys.stdin.readline():
        order = json.loads(line)
        with tempfile.TemporaryFile() as typed, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            typed.write(order["input"].encode())
            typed.seek(0)
            child = os.fork()
            if child == 0:
                become(order, typed, out, err)
                words: list[str] = order["words"]
                return words
            _, status = os.waitpid(child, 0)
            answer = {"status": os.waitstatus_to_exitcode(status), "stdout": text(out), "stderr": text(err)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return []


def text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def become(order: dict[str, Any], *files: IO[bytes]) -> None:
    """Take over the surroundings of an order."""
    for number, file in enumerate(files):
        os.dup2(file.fileno(), number)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environ"])


def run(words: list[str]) -> None:
    """What `python` does with the words behind it."""
    kind, *rest = words
    if kind == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        sys.modules["__main__"] = main = ModuleType("__main__")
        exec(rest[0], main.__dict__)
    elif kind == "-m":
        sys.argv, sys.path[0] = rest, str(Path.cwd())
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = words, str(Path(kind).parent)
        runpy.run_path(kind, run_name="__main__")


def status_of(words: list[str]) -> int:
    """Run a program to its end, and return what it ends with."""
    status = 0
    try:
        run(words)
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(end.code + "\n")
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    for module in sys.argv[1].split(","):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # or the first collection in a fork copies all the memory there is
    if words := serve():
        os._exit(status_of(words))
