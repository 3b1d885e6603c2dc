"""What the reading commands print, whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from syrupy.assertion import SnapshotAssertion

Command = Callable[..., Result]

READING = [
    ["ls"],
    ["ls", "--runs"],
    ["ls", "-n", "2", "--model", "gpt-4o-mini"],
    ["show", "00000001"],
    ["show", "0193a000-0002", "--raw"],
    ["show", "00000004"],
    ["show", "00000005", "--tree"],
    ["show", "capitals"],
    ["tail", "-n", "2"],
    ["search", "paris"],
    ["search", "-E", "pa.is|down", "--in", "error", "--in", "answer"],
    ["cost"],
    ["cost", "--by", "prompt"],
    ["cost", "--by", "day", "--errors"],
    ["sql", "select model, count(*) as calls, sum(cost) as cost from calls group by 1 order by 1"],
]


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_output(lmtrace: Command, arguments: list[str], snapshot: SnapshotAssertion) -> None:
    """Each command prints what the snapshot shows, and no colour when it is not a terminal."""
    result = lmtrace(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout + result.stderr == snapshot


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    "arguments",
    [["ls"], ["ls", "--runs"], ["show", "capitals"], ["show"], ["tail"], ["search", "Paris"], ["cost"]],
    ids=" ".join,
)
def test_json(lmtrace: Command, arguments: list[str]) -> None:
    """With --json stdout is JSON lines and nothing else."""
    result = lmtrace(*arguments, "--json")
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines
    assert all(isinstance(line, dict) for line in lines)


@pytest.mark.usefixtures("store")
def test_json_row(lmtrace: Command) -> None:
    """A call in JSON has the columns of the schema, nested values nested, times in UTC, unknown as null."""
    (row,) = (json.loads(line) for line in lmtrace("ls", "--json", "--model", "llama3").stdout.splitlines())
    assert row["timestamp"] == "2025-01-15T09:03:00.123456Z"
    assert row["messages"][1] == {"role": "user", "content": "Same again?"}
    assert row["cost"] is None


@pytest.mark.usefixtures("store")
def test_narrow(lmtrace: Command, monkeypatch: pytest.MonkeyPatch, snapshot: SnapshotAssertion) -> None:
    """In 80 columns a line is one line."""
    monkeypatch.setenv("COLUMNS", "80")
    result = lmtrace("ls")
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert result.stdout == snapshot


def test_spent(lmtrace: Command, store: Path) -> None:
    """An answer from a cache is not spent, and a call without a price is counted as unknown."""
    result = lmtrace("cost", "--by", "operation", "--json", "--store", str(store))
    (group,) = map(json.loads, result.stdout.splitlines())
    assert group["spent"] == pytest.approx(0.01543345)
    assert group["saved"] == pytest.approx(3.345e-05)
    assert (group["calls"], group["errors"], group["reused"], group["unknown"]) == (5, 1, 1, 1)
    assert group["input_tokens"] == 155 + 9_700 + 20


@pytest.mark.usefixtures("store")
def test_filters(lmtrace: Command) -> None:
    """The filters choose calls by model, run, trace, scope, time and failure."""

    def ids(*arguments: str) -> list[str]:
        return [json.loads(line)["uuid"][-2:] for line in lmtrace("ls", "--json", *arguments).stdout.splitlines()]

    assert ids("--model", "llama3") == ids("--model", "ollama_chat/llama3") == ["03"]
    assert ids("--run", "capitals") == ids("--run", "0193a000-0000") == ["01", "02", "03", "04", "05"]
    assert ids("--trace", "4bf92f", "--errors") == ["04"]
    assert ids("--scope", "Geography") == ids("--scope", "Geography.answer") == ["01"]
    assert ids("--since", "2025-01-15T09:02", "--until", "2025-01-15T09:04") == ["02", "03"]
    assert ids("-n", "2") == ["04", "05"]


@pytest.mark.usefixtures("store")
def test_csv(lmtrace: Command) -> None:
    """`sql --csv` prints a header and rows, nested values as JSON."""
    result = lmtrace("sql", "--csv", "select uuid[-2:] as id, messages from calls where error_type is not null")
    assert result.stdout == 'id,messages\n04,"[{""role"": ""user"", ""content"": ""Too much?""}]"\n'


@pytest.mark.usefixtures("store")
def test_schema(lmtrace: Command) -> None:
    """`sql --schema` lists the columns of every view."""
    lines = [json.loads(line) for line in lmtrace("sql", "--schema", "--json").stdout.splitlines()]
    assert {line["view"] for line in lines} == {
        "calls",
        "messages",
        "spans",
        "runs",
        "rollouts",
        "costs",
        "candidates",
        "examples",
    }
    assert {"view": "calls", "column": "cost", "type": "DOUBLE"} in lines


def test_untrusted_sql(lmtrace: Command, store: Path) -> None:
    """A stranger's SELECT is answered as any other; what is not one is refused, with the code for wrong usage."""
    query = "SELECT model, count(*) AS calls FROM calls GROUP BY 1 ORDER BY 1"
    assert (
        lmtrace("sql", "--untrusted", "--timeout", "30", query, "--json").stdout
        == lmtrace("sql", query, "--json").stdout
    )
    refused = lmtrace("sql", "--untrusted", "WITH x AS (COPY (SELECT 1) TO 'out') SELECT 1")
    assert (refused.exit_code, "only SELECT is allowed, not COPY" in refused.stderr) == (2, True)
    stopped = lmtrace(
        "sql", "--untrusted", "--timeout", "0.3", "SELECT count(*) FROM range(100000000000) a, range(99) b"
    )
    assert (stopped.exit_code, "--timeout gives more time" in stopped.stderr) == (3, True)
    assert "the first 2 rows" in lmtrace("sql", "--untrusted", "--timeout", "30", "FROM range(9)", "-n", "2").stderr


def test_repeated_excerpts(
    lmtrace: Command, make_call: Callable[..., dict[str, Any]], make_store: Callable[..., Path]
) -> None:
    """What a prompt says in several messages in the same words is one line of a search."""
    demo = [{"role": "assistant", "content": "Paris."}] * 3
    make_store([make_call(1, messages=[*demo, {"role": "user", "content": "Paris?"}], outputs=["Paris."])])
    assert lmtrace("search", "paris").stdout.splitlines()[1:] == [
        "  assistant ×3: Paris.",
        "  user: Paris?",
        "  answer: Paris.",
    ]
