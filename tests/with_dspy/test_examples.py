"""Every DSPy program of the examples runs, alike on each version, and again without a network."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from warm import Warm

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "examples" / "dspy_programs"
FILES = [path for path in sorted(FOLDER.glob("*.py")) if not path.name.startswith("_")]
NEEDS = {"mipro": "optuna", "gepa_feedback": "gepa", "random_search": "numpy"}
COST = re.compile(r"(\d+) calls for \$0\.00[\d]+; again without a network: (\d+) calls for \$0")


@pytest.mark.parametrize("example", FILES, ids=[path.stem for path in FILES])
def test_example_runs(example: Path, warm: Warm, tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    """An example prints what it printed when it was written, and its replay served each call it recorded."""
    needed = NEEDS.get(example.stem)
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{example.name} needs {needed}")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LMTRACE_", "OTEL_", "OPENAI_"))}
    done = warm.run(example, cwd=tmp_path, environ=kept | {"LMTRACE_STORE": str(tmp_path / "store")})
    assert done.returncode == 0, done.stdout + done.stderr
    *said, cost = (done.stdout + done.stderr).splitlines()
    assert said == snapshot
    calls = COST.fullmatch(cost)
    assert calls is not None, cost
    assert calls[1] == calls[2]


def test_every_example_is_listed() -> None:
    """The README of the examples names each of them once."""
    listed = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in FILES if listed.count(f"`{path.name}`") != 1] == []
