"""What `dspy_suite.py` adds to DSPy's own tests: the instrumentation, in one of the arms, and a report of each outcome."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import pytest

REPORT: Final = "LMTRACE_SUITE_REPORT"
"""The file to write."""

INSTRUMENT: Final = "LMTRACE_SUITE_INSTRUMENT"
"""Whether to instrument: 1, or nothing at all is imported from lmtrace."""


class Reporter:
    """The worst outcome of each test over its set-up, its call and its end."""

    def __init__(self) -> None:
        self._outcomes: dict[str, str] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be imported counts as a test of its own."""
        if report.failed:
            self._outcomes[report.nodeid] = "not collected"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed or report.nodeid not in self._outcomes:
            outcome = f"xfail {report.outcome}" if hasattr(report, "wasxfail") else report.outcome
            self._outcomes[report.nodeid] = (
                outcome if report.when == "call" or report.passed else f"{outcome} {report.when}"
            )

    def pytest_sessionfinish(self) -> None:
        told = {"outcomes": self._outcomes, "failures": {}, "rows": 0}
        if os.environ.get(INSTRUMENT):
            told |= _ours()
        Path(os.environ[REPORT]).write_text(json.dumps(told))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Reporter())
    if os.environ.get(INSTRUMENT):
        import lmtrace

        lmtrace.instrument()


def _ours() -> dict[str, object]:
    """What failed inside lmtrace meanwhile, and how many calls it kept: none would mean that nothing was compared."""
    import lmtrace
    from lmtrace._failures import failures

    counts = {kind: f"{count}, last {failures.last()[kind]}" for kind, count in failures.counts().items()}
    with lmtrace.history() as history:
        ((rows,),) = history.sql("select count(*) from calls").fetchall()
    return {"failures": counts, "rows": rows}
