"""Every example runs on its own, in an empty project, and says what its author saw."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("example", FILES, ids=[path.stem for path in FILES])
def test_example_runs(example: Path, tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    """An example succeeds without a key and without a network, and prints the same each time."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LMTRACE_", "OTEL_", "OPENAI_"))}
    environment = kept | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": "", "LMTRACE_STORE": str(tmp_path / "store")}
    done = subprocess.run(
        [sys.executable, example], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == snapshot


def test_every_example_is_listed() -> None:
    """The folder's README names each example once."""
    listed = (EXAMPLES / "README.md").read_text()
    assert [path.name for path in FILES if listed.count(f"`{path.name}`") != 1] == []
