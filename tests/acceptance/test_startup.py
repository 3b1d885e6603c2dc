"""What a start costs, in terms of what it loads; seconds are measured by `benchmarks/startup.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "litellm",
    "openai",
    "dspy",
    "duckdb",
    "pyarrow",
    "opentelemetry",
    "pydantic",
    "rich",
    "asyncio",
    "typing_extensions",
}


def loaded(*command: str, **options: str) -> set[str]:
    """The packages that a fresh Python has loaded at its end."""
    words = [sys.executable, "-X", "importtime", *command]
    done = subprocess.run(words, capture_output=True, text=True, check=True, **options)  # type: ignore[call-overload]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_import() -> None:
    """`import lmtrace` loads no package that is heavy, and nothing of ours but the names."""
    assert not loaded("-c", "import lmtrace") & HEAVY
    assert "lmtrace_exporters" not in loaded("-c", "import lmtrace")


def test_names_are_loaded_when_used() -> None:
    """Making an LM and configuring load neither OpenTelemetry nor LiteLLM: the first call does."""
    code = (
        "import lmtrace; lmtrace.configure(capture='metadata'); lmtrace.LM('openai/gpt-4o-mini'); lmtrace.instrument()"
    )
    assert not loaded("-c", code) & {"litellm", "duckdb", "pyarrow", "dspy"}


@pytest.mark.parametrize("words", [["--help"], ["path"], ["completion", "bash"], ["--version"]], ids=" ".join)
def test_light_commands(words: list[str], tmp_path: Path) -> None:
    """Commands that read no rows load nothing to read them with."""
    assert not loaded("-m", "lmtrace", *words, cwd=str(tmp_path)) & {
        "duckdb",
        "pyarrow",
        "litellm",
        "opentelemetry",
        "rich",
    }


def test_reading_is_light(start: object, store: Path, tmp_path: Path) -> None:
    """The newest calls of a store without segments are listed without DuckDB, and nothing else needs pyarrow or LiteLLM."""
    process = start("reporting.py", 5)  # type: ignore[operator]
    process.communicate()
    assert not loaded("-m", "lmtrace", "ls", cwd=str(tmp_path)) & {"duckdb", "pyarrow", "litellm", "opentelemetry"}
    assert not loaded("-m", "lmtrace", "cost", cwd=str(tmp_path)) & {
        "pyarrow",
        "litellm",
        "opentelemetry",
        "pandas",
        "numpy",
    }
