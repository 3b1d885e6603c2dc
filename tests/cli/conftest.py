"""A store with one program's calls, written through the public exporter, for all commands to read."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lmtrace._cli import cli
from lmtrace._exporter import Record
from lmtrace_exporters import StoreExporter

RUN = "0193a000-0000-7000-8000-0000000000aa"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

DEFAULTS: dict[str, Any] = {
    "kind": "call",
    "duration_ms": 312.4,
    "operation": "chat",
    "model_type": "chat",
    "provider": "openai",
    "model": "openai/gpt-4o-mini",
    "response_model": "gpt-4o-mini-2024-07-18",
    "served_by": "provider",
    "cache_hit": False,
    "attempts": 1,
    "streamed": False,
    "run_id": RUN,
    "run_name": "capitals",
    "schema_version": 1,
    "lmtrace_version": "0.1.0",
    "host": "here",
    "pid": 4121,
    "thread": "MainThread",
}


def call(number: int, **columns: Any) -> dict[str, Any]:
    """A row; `number` makes its ids and its time."""
    identity = {
        "uuid": f"0193a000-{number:04x}-7000-8000-0000000000{number:02x}",
        "timestamp": f"2025-01-15T09:{number:02}:00.123456Z",
        "trace_id": TRACE,
        "span_id": f"{number:016x}",
        "parent_span_id": "00000000000000ff",
    }
    return DEFAULTS | identity | columns


def span(**columns: Any) -> dict[str, Any]:
    """The span of the run."""
    row = {
        "kind": "span",
        "span_id": "00000000000000ff",
        "trace_id": TRACE,
        "timestamp": "2025-01-15T09:00:59.000000Z",
        "duration_ms": 240_500.0,
        "name": "capitals",
        "status": "ok",
        "run_id": RUN,
        "run_name": "capitals",
        "host": "here",
        "pid": 4121,
    }
    return row | columns


def asking(text: str, system: str | None = None) -> list[dict[str, str]]:
    """Messages with one question."""
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": text}]


ROWS = [
    span(),
    call(
        1,
        messages=asking("Capital of France?", "Answer in one word."),
        outputs=["Paris"],
        finish_reasons=["stop"],
        kwargs={"temperature": 0.7, "rollout_id": 1},
        rollout_id="1",
        temperature=0.7,
        input_tokens=155,
        output_tokens=17,
        total_tokens=172,
        cost=3.345e-05,
        cost_source="litellm",
        billed_cost=3.345e-05,
        scope="Geography.answer",
        request_key="lm1:abc",
    ),
    call(
        2,
        messages=asking("Weather in Paris?"),
        tools=[{"type": "function", "function": {"name": "get_weather"}}],
        outputs=[
            {
                "text": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                    }
                ],
            }
        ],
        finish_reasons=["tool_calls"],
        input_tokens=9_700,
        output_tokens=1_400,
        total_tokens=11_100,
        cost=0.0154,
        cost_source="litellm",
        billed_cost=0.0154,
    ),
    call(
        3,
        model="ollama_chat/llama3",
        provider="ollama",
        response_model="llama3",
        messages=asking("Same again?", "Answer in one word."),
        outputs=["Yes"],
        input_tokens=20,
        output_tokens=1,
        total_tokens=21,
    ),
    call(
        4,
        messages=asking("Too much?"),
        error_type="litellm.exceptions.RateLimitError",
        error_message="slow down",
        error_status=429,
        attempts=3,
        response_model=None,
    ),
    call(
        5,
        messages=asking("Capital of France?", "Answer in one word."),
        outputs=["Paris"],
        served_by="cache",
        cache_hit=True,
        input_tokens=155,
        output_tokens=17,
        cost=3.345e-05,
        billed_cost=0.0,
    ),
]


def write_store(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A store at `path` with `rows`."""
    exporter = StoreExporter(path, compaction=False)
    exporter.export([Record(row["kind"], json.dumps(row, separators=(",", ":")).encode()) for row in rows])
    exporter.shutdown()
    return path


@pytest.fixture(autouse=True)
def fixed_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are shown in UTC, and tables are as wide as 120 columns."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with six rows, where the settings look for it."""
    return write_store(tmp_path / "store", ROWS)


@pytest.fixture
def make_call() -> Callable[..., dict[str, Any]]:
    """Makes a row: ``make_call(1, messages=…)``."""
    return call


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[[list[dict[str, Any]]], Path]:
    """Writes rows to the store that the settings name."""
    return lambda rows: write_store(tmp_path / "store", rows)


@pytest.fixture
def lmtrace() -> Callable[..., Result]:
    """Runs the command in this process: ``lmtrace("ls", "--json")``."""

    def run(*arguments: str, **options: Any) -> Result:
        return CliRunner().invoke(cli, arguments, prog_name="lmtrace", **options)

    return run


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts ``lmtrace …`` as a process that does not outlive the test."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments: str, **options: Any) -> subprocess.Popen[str]:
            words = [sys.executable, "-m", "lmtrace", *arguments]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            process = stack.enter_context(subprocess.Popen(words, **pipes, **options))
            stack.callback(process.kill)
            return process

        yield begin
