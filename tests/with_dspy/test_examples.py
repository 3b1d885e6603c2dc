"""Every DSPy program of the examples runs, alike on each version, and again without a network."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "examples" / "dspy_programs"
FILES = [path for path in sorted(FOLDER.glob("*.py")) if not path.name.startswith("_")]
NEEDS = {"mipro": "optuna", "gepa_feedback": "gepa", "random_search": "numpy"}
COST = re.compile(r"(\d+) calls for \$0\.00[\d]+; again without a network: (\d+) calls for \$0")

Results = dict[str, tuple[int, str]]


@pytest.fixture(scope="module")
def results() -> Results:
    """Exit status and output of each example, run without a key."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LMTRACE_", "OTEL_", "OPENAI_"))}
    program = [sys.executable, "-W", "ignore", ROOT / "tests/docs/run_examples.py", "dspy,litellm", *FILES]
    environment = kept | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=110, check=True)
    printed: Results = json.loads(done.stdout)
    return printed


@pytest.mark.parametrize("example", FILES, ids=[path.stem for path in FILES])
def test_example_runs(example: Path, results: Results, snapshot: SnapshotAssertion) -> None:
    """An example prints what it printed when it was written, and its replay served each call it recorded."""
    needed = NEEDS.get(example.stem)
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{example.name} needs {needed}")
    status, printed = results[str(example)]
    assert status == 0, printed
    *said, cost = printed.splitlines()
    assert said == snapshot
    calls = COST.fullmatch(cost)
    assert calls is not None, cost
    assert calls[1] == calls[2]


def test_every_example_is_listed() -> None:
    """The README of the examples names each of them once."""
    listed = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in FILES if listed.count(f"`{path.name}`") != 1] == []
