"""Runs DSPy's own tests without lmtrace and with `lmtrace.instrument()`, and compares what becomes of each.

DSPy's archives on PyPI hold no tests, so this takes a checkout of the version that is to be tested, with what its tests
need in the environment of the Python that runs this (`make dspy-suite`)::

    git clone --depth 1 --branch 3.4.1 https://github.com/stanfordnlp/dspy /tmp/dspy-3.4.1
    make dspy-suite DSPY=3.4.1 CHECKOUT=/tmp/dspy-3.4.1

A third time our own failures, which users only find in a log, are raised. A test that comes out differently is asked
again on its own before it counts, because some of DSPy's tests depend on time. Exit codes: 0 all the same and nothing failed
inside lmtrace, 1 a difference or a failure, 3 a run that came to no end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dspy_suite_plugin

PLUGINS: Final = ("pytest_asyncio.plugin", "anyio.pytest_plugin", "pytest_mock", "pytest_timeout", "dspy_suite_plugin")
ARMS: Final[dict[str, dict[str, str]]] = {
    "without": {},
    "with": {dspy_suite_plugin.INSTRUMENT: "1"},
    "raising": {dspy_suite_plugin.INSTRUMENT: "1", "LMTRACE_TEST_RAISE": "1"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What one run of the tests told."""

    outcomes: dict[str, str]
    failures: dict[str, str]
    """Of lmtrace's own, by kind."""
    rows: int
    seconds: float

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {name}" for name, count in sorted(Counter(self.outcomes.values()).items()))
        return f"{len(self.outcomes)} tests: {counted}; {self.rows} calls recorded; {self.seconds:.0f} s"


def run(name: str, checkout: Path, tests: Sequence[str]) -> Arm:
    """One arm, in a process and folders of its own.

    Raises:
        SystemExit: pytest did not come to its end.
    """
    with tempfile.TemporaryDirectory(prefix="lmtrace-suite-") as folder:
        report = Path(folder, "report.json")
        began = time.monotonic()
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--no-header",
            "--tb=short",
            "--timeout=120",
            "-p",
            "no:cacheprovider",
            "--continue-on-collection-errors",
        ]
        command += [option for plugin in PLUGINS for option in ("-p", plugin)]
        output = Path(folder, "output")
        with output.open("w") as stream:
            subprocess.run(  # its exit code says that tests failed, which is no news
                [*command, *tests],
                cwd=checkout,
                env=_environment(folder) | {dspy_suite_plugin.REPORT: str(report)} | ARMS[name],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if (kept := os.environ.get("LMTRACE_SUITE_OUTPUT")) is not None:
            with Path(kept, f"{name}.txt").open("a") as stream:
                stream.write(output.read_text())
        if not report.exists():
            print(output.read_text()[-4000:], file=sys.stderr)
            raise SystemExit(3)
        return Arm(**json.loads(report.read_text()), seconds=time.monotonic() - began)


def _environment(folder: str) -> dict[str, str]:
    ours = (str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")]))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LMTRACE_", "OTEL_"))}
    return inherited | {
        "PYTHONPATH": os.pathsep.join(ours),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # lmtrace has a plugin for pytest, which is not to be in the arm without
        "PATH": os.pathsep.join(
            (str(Path(sys.executable).parent), os.environ.get("PATH", ""))
        ),  # `litellm`, their test server
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # which listens on loopback only, and has no key
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LMTRACE_STORE": str(Path(folder, "store")),
        "DSPY_CACHEDIR": str(Path(folder, "cache")),
    }


def differences(one: Arm, other: Arm) -> list[str]:
    """The tests that came out differently, or in one of them only."""
    names = sorted(one.outcomes.keys() | other.outcomes.keys())
    return [name for name in names if one.outcomes.get(name) != other.outcomes.get(name)]


def lasting(name: str, checkout: Path, plain: Arm, other: Arm) -> Iterable[str]:
    """The differences that are there again when only those tests are run, one after the other."""
    for test in differences(plain, other):
        before, after = (run(arm, checkout, [test]).outcomes.get(test) for arm in ("without", name))
        if before != after:
            yield f"{test}: {before} without, {after} {name}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="a checkout of DSPy, with its tests")
    parser.add_argument("tests", nargs=argparse.REMAINDER, help="what to run of it, and options of pytest")
    options = parser.parse_args(arguments)
    tests = options.tests or ["tests"]
    plain = run("without", options.checkout, tests)
    print(f"without: {plain}", flush=True)
    found: list[Any] = []
    for name in ("with", "raising"):
        arm = run(name, options.checkout, tests)
        print(f"{name}: {arm}", flush=True)
        found += lasting(name, options.checkout, plain, arm)
        found += [f"{name}: {kind} failed ({count})" for kind, count in arm.failures.items()]
    print("\n".join(found) or "no difference")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
