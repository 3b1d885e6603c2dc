"""Every example runs on its own, in an empty folder, and says what its author saw."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from warm import Warm

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))

@pytest.mark.parametrize("example", FILES, ids=[path.stem for path in FILES])
def test_example_runs(example: Path, warm: Warm, tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    """An example succeeds without a key and without a network, and prints the same each time."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LMTRACE_", "OTEL_", "OPENAI_"))}
    done = warm.run(example, cwd=tmp_path, environ=kept | {"LMTRACE_STORE": str(tmp_path / "store")})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout + done.stderr == snapshot


def test_every_example_is_listed() -> None:
    """The folder's README names each example once."""
    listed = (EXAMPLES / "README.md").read_text()
    assert [path.name for path in FILES if listed.count(f"`{path.name}`") != 1] == []
