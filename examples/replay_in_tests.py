"""A test that asks the model once: recorded from the provider, then replayed when there is none any more.

What this program does with `subprocess` is what you type: ``pytest --lmtrace-mode=record-missing``, then ``pytest``.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from lmtrace.testing import LoopbackProvider

TEST = """
import lmtrace
import pytest

@pytest.mark.lmtrace
def test_capital(lm_replay):
    lm = lmtrace.LM("openai/gpt-4o-mini", temperature=0)
    assert "Tokyo" in lm("What is the capital of Japan?")[0]
    assert len(lm_replay.calls) == 1
"""


def pytest(folder: str, *arguments: str, **environ: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    done = subprocess.run(command, cwd=folder, env=os.environ | environ, text=True, capture_output=True, check=False)
    print("\n".join(line for line in done.stdout.splitlines() if line.startswith("lmtrace:")))
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


with tempfile.TemporaryDirectory() as folder:
    Path(folder, "test_capital.py").write_text(TEST)
    with LoopbackProvider() as provider:
        provider.reply("Tokyo.")
        pytest(folder, "--lmtrace-mode=record-missing", OPENAI_API_KEY="any", OPENAI_BASE_URL=provider.openai_base)
    pytest(folder)
    print(next(Path(folder).rglob("*.cassette")).relative_to(folder))
