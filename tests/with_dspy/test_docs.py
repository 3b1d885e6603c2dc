"""What docs/dspy.md says is run, with each version of DSPy."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from warm import Warm

import lmtrace
from lmtrace.testing import LoopbackProvider

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_blocks_do_what_they_say(
    provider: LoopbackProvider, warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python blocks run and print exactly what the text block after them shows; then the SQL is asked of what they recorded."""
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    monkeypatch.setenv("OPENAI_BASE_URL", provider.openai_base)
    monkeypatch.setenv("OPENAI_API_BASE", provider.openai_base)
    monkeypatch.delenv("CI", raising=False)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "reader"\n')
    blocks = BLOCK.findall((ROOT / "docs/dspy.md").read_text(encoding="utf-8"))
    typed = json.dumps([text for kind, text in blocks if kind == "python"])
    done = warm.run(ROOT / "tests/docs/run_blocks.py", cwd=tmp_path, typed=typed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [text for kind, text in blocks if kind == "text"]
    statements = [found for kind, text in blocks if kind == "sql" for found in text.split(";") if found.strip()]
    with lmtrace.history() as history:
        assert history.fetch(statements[0]).rows
        assert all(history.fetch(statement).columns for statement in statements)
