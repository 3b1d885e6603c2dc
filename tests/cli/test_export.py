"""`lmtrace export` with a condition and to OTLP, and `lmtrace import`; files are in test_files."""

from __future__ import annotations

import base64
import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

sys.path.insert(0, str(Path(__file__).parent.parent))

from receiver import receiver, running_receiver  # noqa: F401 - fixtures

Command = Callable[..., Result]


def hexadecimal(text: str) -> str:
    return base64.b64decode(text).hex()


@pytest.mark.usefixtures("store")
def test_where(lmtrace: Command, tmp_path: Path) -> None:
    """--where narrows what the other filters choose, even with a comment in it; a wrong one says what is wrong."""
    file = tmp_path / "out.jsonl"
    result = lmtrace(
        "export", str(file), "--model", "gpt-4o-mini", "--where", "cost > 0.01 OR error_status = 429 -- dear"
    )
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["uuid"][-2:] for line in lines if line["kind"] == "call"] == ["02", "04"]
    wrong = lmtrace("export", str(tmp_path / "other.jsonl"), "--where", "costs > 1")
    assert wrong.exit_code == 2
    assert "cost" in wrong.stderr


@pytest.mark.usefixtures("store")
def test_to_otlp(lmtrace: Command, receiver: Any) -> None:  # noqa: F811 - a fixture
    """Stored calls and spans arrive as the spans they were: ids, times, attributes, status; content only on request."""
    result = lmtrace("export", "--to", "otlp", "--endpoint", receiver.http)
    assert result.exit_code == 0, result.output
    assert result.stderr == f"6 spans sent to {receiver.http}\n"
    spans = {hexadecimal(span["span_id"]): span for span in receiver.spans()}
    assert len(spans) == 6
    run, first, failed, hit = (spans[f"{number:016x}"] for number in (255, 1, 4, 5))
    assert {hexadecimal(span["trace_id"]) for span in spans.values()} == {"4bf92f3577b34da6a3ce929d0e0e4736"}
    assert (run["name"], hexadecimal(first["parent_span_id"])) == ("capitals", "00000000000000ff")
    assert int(first["start_time_unix_nano"]) == 1_736_931_660_123_456_000
    assert int(first["end_time_unix_nano"]) - int(first["start_time_unix_nano"]) == 312_400_000
    assert first["name"] == "chat gpt-4o-mini"
    assert first["attributes"]["gen_ai.usage.input_tokens"] == 155
    assert first["attributes"]["lmtrace.run.name"] == "capitals"
    assert failed["status"]["code"] == "STATUS_CODE_ERROR"
    assert failed["attributes"]["error.type"] == "litellm.exceptions.RateLimitError"
    assert "gen_ai.usage.input_tokens" not in hit["attributes"]
    assert hit["attributes"]["lmtrace.recorded.usage.input_tokens"] == 155
    assert "Capital" not in json.dumps(receiver.read("traces"))
    assert lmtrace("export", "--to", "otlp", "--endpoint", receiver.http, "--content").exit_code == 0
    assert "Capital of France?" in json.dumps(receiver.read("traces"))


def test_csv_runs_nothing(lmtrace: Command, tmp_path: Path) -> None:
    """A text that a spreadsheet would run as a formula is shown by it instead, from both commands that write CSV."""
    texts = ["=1+1", "+1", "-1", "@x", "\t=1", "＝1", "plain = 1"]
    rows = [
        {"kind": "call", "uuid": f"u{number}", "timestamp": "2026-11-21T09:15:00Z", "prompt": text, "cost": -0.0}
        for number, text in enumerate(texts)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert lmtrace("import", str(tmp_path / "rows.jsonl")).exit_code == 0
    assert lmtrace("export", str(tmp_path / "out.csv")).exit_code == 0
    exported = csv.DictReader(io.StringIO((tmp_path / "out.csv").read_bytes().decode(), newline=""))
    asked = lmtrace("sql", "SELECT prompt FROM calls ORDER BY uuid", "--csv").stdout
    expected = [f"'{text}" for text in texts[:-1]] + texts[-1:]
    assert [row["prompt"] for row in exported] == expected
    assert [row["prompt"] for row in csv.DictReader(io.StringIO(asked, newline=""))] == expected


@pytest.mark.usefixtures("store")
def test_to_nowhere(lmtrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that does not answer is an error of the environment, and says that nothing arrived."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    result = lmtrace("export", "--to", "otlp", "--endpoint", "http://127.0.0.1:1")
    assert result.exit_code == 3
    assert "0 spans arrived" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--to", "otlp", "file"], ["out.csv", "--endpoint", "http://x"], [], ["--to", "otlp", "--endpoint", "x"]],
    ids=" ".join,
)
@pytest.mark.usefixtures("store")
def test_wrong_use(lmtrace: Command, arguments: list[str]) -> None:
    """Options that do not go together are refused before anything is read."""
    assert lmtrace("export", *arguments).exit_code in (2, 3)


@pytest.mark.usefixtures("store")
def test_import(lmtrace: Command, tmp_path: Path) -> None:
    """Exported rows come into another store once; a line that is no row makes the exit code 1 and is named."""
    file, other = tmp_path / "out.jsonl", tmp_path / "other"
    lmtrace("export", str(file))
    result = lmtrace("import", str(file), "--store", str(other))
    assert result.exit_code == 0, result.output
    assert result.stdout == f"5 calls and 1 span added to {other}\n"
    with file.open("a") as lines:
        lines.write('{"kind": "call"}\n')
    again = lmtrace("import", str(file), "--store", str(other), "--json")
    assert again.exit_code == 1
    assert json.loads(again.stdout) == {"calls": 0, "spans": 0, "known": 6, "refused": ["line 7: no uuid"]}
    assert "line 7: no uuid" in again.stderr
    before, after = (lmtrace("ls", "--json", "--store", str(store)).stdout for store in (tmp_path / "store", other))
    assert sorted(before.splitlines()) == sorted(after.splitlines())


def test_import_refused(lmtrace: Command, tmp_path: Path) -> None:
    """A file without rows is wrong usage, one of a newer version is not."""
    file = tmp_path / "rows.jsonl"
    file.write_text("a,b\n")
    assert lmtrace("import", str(file)).exit_code == 2
    file.write_text('{"kind":"call","uuid":"u","timestamp":"2026-11-21T09:15:00Z","schema_version":9}')
    newer = lmtrace("import", str(file))
    assert newer.exit_code == 3
    assert "upgrade lmtrace" in newer.stderr
