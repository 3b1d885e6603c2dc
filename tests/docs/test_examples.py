"""Every example runs on its own, in an empty folder, and says what its author saw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))

Results = dict[str, tuple[int, str]]


@pytest.fixture(scope="module")
def results() -> Results:
    """Exit status and output of each example, run without a key and without a network."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LMTRACE_", "OTEL_", "OPENAI_"))}
    environment = kept | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    command = [sys.executable, Path(__file__).parent / "run_examples.py", "litellm", *FILES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    printed: Results = json.loads(done.stdout)
    return printed


@pytest.mark.parametrize("example", FILES, ids=[path.stem for path in FILES])
def test_example_runs(example: Path, results: Results, snapshot: SnapshotAssertion) -> None:
    """An example succeeds, and prints the same each time."""
    status, printed = results[str(example)]
    assert status == 0, printed
    assert printed == snapshot


def test_every_example_is_listed() -> None:
    """The folder's README names each example once."""
    listed = (EXAMPLES / "README.md").read_text()
    assert [path.name for path in FILES if listed.count(f"`{path.name}`") != 1] == []
