"""Whoever comes from OpenTelemetry's own instrumentation of DSPy finds every span, event and metric key of it here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = Path(__file__).parent / "programs"
THEIRS = json.loads((PROGRAMS / "keys_of_opentelemetry.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The keys of lmtrace on the same programs."""
    command = [sys.executable, "-W", "ignore", PROGRAMS / "keys.py", "lmtrace"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LMTRACE_", "OTEL_"))}
    folder = tmp_path_factory.mktemp("keys")
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["spans", "events", "metrics"])
def test_superset(kind: str, ours: Any) -> None:
    """Nothing is missing: kinds of spans by operation, events and metrics by name, and the keys of each."""
    lacking = {name: sorted(set(keys) - set(ours[kind].get(name, ()))) for name, keys in THEIRS[kind].items()}
    assert {name: keys for name, keys in lacking.items() if keys or name not in ours[kind]} == {}
