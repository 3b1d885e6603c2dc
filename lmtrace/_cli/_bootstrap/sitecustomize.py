"""What ``lmtrace run`` puts first on PYTHONPATH: Python imports it before the program, and it turns recording on.

It must never change how the program runs: nothing here raises, prints, or imports more than the standard library, and a
`sitecustomize` of the environment still gets its turn. Only under ``lmtrace replay``, which leaves a file in the folder, a
program that cannot be replayed is not run at all: it would ask a provider. What happened is left in a private folder for the summary, one
file for each process, lines of ``key value``.
"""

from __future__ import annotations

import atexit
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  # pathlib costs 5 ms in every Python started
_STATUS = os.environ.get("LMTRACE_RUN_STATUS")
_REPLAY = _STATUS is not None and os.path.exists(os.path.join(_STATUS, "replay.json"))  # noqa: PTH110, PTH118


def _say(key: str, value: object) -> None:
    if not _STATUS:
        return
    try:
        with open(os.path.join(_STATUS, str(os.getpid())), "a", encoding="utf-8") as file:  # noqa: PTH118, PTH123
            file.write(f"{key} {value}\n")
    except OSError:
        return  # the folder went away with `lmtrace run`; this process outlives it


def _start() -> None:
    _say("python", sys.executable)
    try:
        import lmtrace

        lmtrace.instrument()
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "lmtrace"
        _say("missing" if missing else "broken", f"{type(error).__name__}: {error}")
        if _REPLAY:
            _refuse(
                f"{sys.executable} has no lmtrace; install it there: pip install lmtrace" if missing else str(error)
            )
        return
    if _REPLAY:
        _replay()
    _say("ready", lmtrace.__version__)
    atexit.register(_end)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forked)


def _replay() -> None:
    try:
        from lmtrace_replay._program import start

        start(str(_STATUS))
    except Exception as error:
        _refuse(str(error))


def _refuse(reason: str) -> None:
    sys.stderr.write(f"lmtrace replay: not started: {reason}\n")
    sys.stderr.flush()
    os._exit(3)


def _forked() -> None:
    _say("forked", sys.executable)


def _end() -> None:
    _say("litellm", "litellm" in sys.modules)
    failures = sys.modules.get("lmtrace._failures")
    for kind, reason in failures.failures.last().items() if failures is not None else ():
        _say("failed", f"{kind}: {reason}")
    _say("ended", "")


def _next_sitecustomize() -> None:
    """Run the one this file stands in front of, under its own name."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != _HERE]  # noqa: PTH100
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = sys.modules["sitecustomize"] = module_from_spec(spec)
        spec.loader.exec_module(module)


try:
    _next_sitecustomize()
finally:
    _start()
