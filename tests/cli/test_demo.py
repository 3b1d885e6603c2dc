"""The demo is what a newcomer sees first."""

from __future__ import annotations

import os
from pathlib import Path

from warm import Warm

from lmtrace_exporters import open_history


def test_demo(tmp_path: Path, warm: Warm) -> None:
    """It shows a trace, rows, SQL, cost and a span, needs no key, and writes to a store of its own."""
    (tmp_path / "pyproject.toml").write_text("")
    environ = {name: value for name, value in os.environ.items() if name != "LMTRACE_STORE"} | {"COLUMNS": "120"}
    done = warm.run("-m", "lmtrace", "demo", cwd=tmp_path, environ=environ)
    assert done.returncode == 0, done.stderr
    for words in (
        "7 calls · 1 error · ",
        "└── chat gpt-4o-mini",
        'get_weather({"city": "Par',
        "RateLimitError 429: ",
        "1           Teal.",
        "gen_ai.usage.input_tokens             13",
        "show --store .lmtrace-demo",
    ):
        assert words in done.stdout
    assert done.stderr.splitlines()[0].startswith(f"recording to {tmp_path / '.lmtrace-demo'}")
    assert len(done.stderr.splitlines()) == 2
    with open_history(tmp_path / ".lmtrace-demo") as history:
        rows = history.recent()
    assert [row["streamed"] for row in rows].count(True) == 1
    assert {row["rollout_id"] for row in rows} == {None, "1", "2"}
    assert not (tmp_path / ".lmtrace").exists()
