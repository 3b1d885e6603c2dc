"""Commands that write files or look at the store as files: export, compact, path, tail -f."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import Result

from lmtrace._exporter import Record
from lmtrace_exporters import StoreExporter

Command = Callable[..., Result]


@pytest.mark.usefixtures("store")
def test_export_database(lmtrace: Command, tmp_path: Path) -> None:
    """A DuckDB database has the tables and views of the history, and opens without lmtrace."""
    file = tmp_path / "out.duckdb"
    result = lmtrace("export", str(file))
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith(f"5 calls in {file}")
    with duckdb.connect(str(file), read_only=True) as database:
        names = ("calls", "messages", "spans", "runs", "costs", "rollouts", "candidates", "examples")
        counts = [database.sql(f"SELECT count(*) FROM {name}").fetchall()[0] for name in names]
    assert counts == [(5,), (12,), (6,), (1,), (2,), (0,), (0,), (0,)]


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_export_file(lmtrace: Command, tmp_path: Path, ending: str) -> None:
    """Each format has a line for each call that the filters choose, in order of time."""
    file = tmp_path / "deep" / f"out.{ending}"
    assert lmtrace("export", str(file), "--model", "gpt-4o-mini").exit_code == 0
    if ending == "parquet":
        found = [row[0] for row in duckdb.sql(f"SELECT uuid FROM '{file}'").fetchall()]
    elif ending == "jsonl":
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        calls = [line for line in lines if line["kind"] == "call"]
        assert [line["name"] for line in lines if line["kind"] == "span"] == ["capitals"]
        assert calls[0]["messages"][1]["content"] == "Capital of France?"
        assert calls[0]["timestamp"] == "2025-01-15T09:01:00.123456Z"
        found = [line["uuid"] for line in calls]
    else:
        found = [line["uuid"] for line in csv.DictReader(file.read_text().splitlines())]
    assert [uuid[-2:] for uuid in found] == ["01", "02", "04", "05"]


@pytest.mark.usefixtures("store")
def test_export_finetune(lmtrace: Command, tmp_path: Path) -> None:
    """Training data is what calls asked and were answered, tools included, each once; failed calls teach nothing."""
    file = tmp_path / "train.jsonl"
    result = lmtrace("export", str(file), "--format", "finetune")
    assert result.exit_code == 0
    assert "conversations of 5 calls" in result.stderr
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["messages"][-1]["role"] for line in lines] == ["assistant"] * len(lines)
    assert lines[0] == {
        "messages": [
            {"role": "system", "content": "Answer in one word."},
            {"role": "user", "content": "Capital of France?"},
            {"role": "assistant", "content": "Paris"},
        ]
    }
    (tooled,) = [line for line in lines if "tools" in line]
    assert tooled["messages"][-1]["tool_calls"][0]["function"]["name"] == "get_weather"
    assert not any("Too much?" in str(line) for line in lines)
    assert lmtrace("export", str(file), "--to", "finetune", "--min-score", "1").exit_code == 1
    printed = lmtrace("export", "-", "--to", "finetune")
    assert (printed.exit_code, printed.stdout, printed.stderr) == (0, file.read_text(), "")
    assert lmtrace("export", "-", "--to", "csv").exit_code == 2


@pytest.mark.usefixtures("store")
def test_export_stdout(lmtrace: Command) -> None:
    """- is JSON lines on stdout."""
    lines = lmtrace("export", "-", "--errors").stdout.splitlines()
    assert [json.loads(line)["error_status"] for line in lines] == [429]


@pytest.mark.usefixtures("store")
def test_export_replaces_nothing(lmtrace: Command, tmp_path: Path) -> None:
    """An existing file is replaced with --force only."""
    file = tmp_path / "out.csv"
    file.write_text("mine")
    assert lmtrace("export", str(file)).exit_code == 2
    assert file.read_text() == "mine"
    assert lmtrace("export", "--force", str(file)).exit_code == 0
    assert file.read_text().startswith("uuid,")


@pytest.mark.usefixtures("store")
def test_compact(lmtrace: Command) -> None:
    """After compaction the same calls are there, in segments."""
    before = lmtrace("ls", "--json").stdout
    result = lmtrace("compact")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("1 journal, 6 rows, 2 new segments")
    assert lmtrace("ls", "--json").stdout == before
    assert lmtrace("compact").stdout.startswith("0 journals")


def test_path(lmtrace: Command, tmp_path: Path) -> None:
    """`path` prints the store's folder and makes nothing."""
    assert lmtrace("path").stdout == f"{tmp_path / 'store'}\n"
    assert not (tmp_path / "store").exists()


def test_path_is_light(tmp_path: Path) -> None:
    """`path`, `config` and `--help` load neither DuckDB nor rich nor anything of a provider."""
    code = (
        "import sys; from lmtrace._cli import cli\n"
        "for words in (['path'], ['--help'], ['config', '--json']): cli(words, standalone_mode=False)\n"
        "print({'duckdb', 'rich', 'litellm', 'opentelemetry', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_follow(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path, make_call: Callable[..., dict[str, Any]]
) -> None:
    """`tail -f` shows a call as soon as it is written, from a store that did not exist before, and ends with Ctrl-C."""
    process = start("tail", "-f", "--json", "--model", "gpt-4o-mini")
    assert process.stderr is not None
    assert process.stdout is not None
    assert process.stderr.readline().startswith("following ")
    exporter = StoreExporter(tmp_path / "store", compaction=False)
    rows = [make_call(1, model="other/model", response_model=None), make_call(2)]
    exporter.export([Record("call", json.dumps(row, separators=(",", ":")).encode()) for row in rows])
    assert json.loads(process.stdout.readline())["uuid"] == rows[1]["uuid"]
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
    exporter.shutdown()
