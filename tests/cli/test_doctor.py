"""`lmtrace doctor` and `lmtrace config`."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from lmtrace._cli._checks import endpoint

Command = Callable[..., Result]


def findings(result: Result) -> dict[str, dict[str, Any]]:
    return {line["check"]: line for line in map(json.loads, result.stdout.splitlines())}


@pytest.mark.usefixtures("store")
def test_healthy(lmtrace: Command) -> None:
    """With all in order the exit code is 0 and the report has the store, its content and the versions."""
    result = lmtrace("doctor", "--json")
    found = findings(result)
    assert result.exit_code == 0, result.output
    assert found["store"]["state"] == found["history"]["state"] == found["settings"]["state"] == "ok"
    assert found["history"]["message"] == "5 calls, 1 of them failed"
    assert {"lmtrace", "litellm", "duckdb", "pyarrow", "opentelemetry-sdk"} <= set(found)
    assert "✓ history" in lmtrace("doctor").stdout


def test_no_store_yet(lmtrace: Command, tmp_path: Path) -> None:
    """A store that does not exist yet is fine, and is not made."""
    result = lmtrace("doctor", "--json")
    assert result.exit_code == 0
    assert findings(result)["history"]["state"] == "note"
    assert not (tmp_path / "store").exists()


def test_unwritable(lmtrace: Command, tmp_path: Path) -> None:
    """A store that cannot be written is red, and the exit code is 3."""
    (tmp_path / "file").write_text("")
    result = lmtrace("doctor", "--json", "--store", str(tmp_path / "file" / "store"))
    assert result.exit_code == 3
    assert findings(result)["store"]["state"] == "error"


def test_damage(lmtrace: Command, store: Path) -> None:
    """A damaged line is red and named; the rest is served."""
    (journal,) = (store / "journal").glob("*.jsonl")
    journal.write_bytes(journal.read_bytes().replace(b"llama3", b"llama4"))
    result = lmtrace("doctor", "--json")
    assert result.exit_code == 3
    assert journal.name in findings(result)["damage"]["message"]
    assert findings(result)["history"]["message"] == "4 calls, 1 of them failed"


def test_newer(lmtrace: Command, store: Path) -> None:
    """A store of a newer format is red."""
    (store / "store.json").write_text('{"format": 99}')
    assert findings(lmtrace("doctor", "--json"))["history"]["state"] == "error"


def test_wrong_setting(lmtrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that is not valid is red, and the other checks still run."""
    monkeypatch.setenv("LMTRACE_CAPTURE", "ful")
    result = lmtrace("doctor", "--json")
    assert result.exit_code == 3
    assert "full" in findings(result)["settings"]["message"]
    assert "python" in findings(result)


def test_endpoint_reachable(lmtrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The OTLP endpoint is green when something listens there, red when nothing does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("LMTRACE_OTLP", f"http://127.0.0.1:{port}")
        assert findings(lmtrace("doctor", "--json"))["otlp"]["state"] == "ok"
    result = lmtrace("doctor", "--json")
    assert result.exit_code == 3
    assert f"127.0.0.1:{port}" in findings(result)["otlp"]["message"]


def test_endpoint_that_cannot_work(lmtrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that a program would refuse is red: no key for Honeycomb, no address."""
    for given, said in (("honeycomb", "HONEYCOMB_API_KEY"), ("localhost:4318", "http://localhost:4318")):
        monkeypatch.delenv("HONEYCOMB_API_KEY", raising=False)
        monkeypatch.setenv("LMTRACE_OTLP", given)
        result = lmtrace("doctor", "--json")
        assert result.exit_code == 3
        assert (findings(result)["otlp"]["state"], said in findings(result)["otlp"]["message"]) == ("error", True)


@pytest.mark.parametrize(
    ("address", "protocol", "is_odd"),
    [("http://localhost:4317", "", True), ("http://localhost:4317", "grpc", False), ("jaeger", "", False)],
)
def test_port_of_the_other_protocol(
    lmtrace: Command, monkeypatch: pytest.MonkeyPatch, address: str, protocol: str, *, is_odd: bool
) -> None:
    """HTTP to the port where collectors speak gRPC is a warning."""
    monkeypatch.setenv("LMTRACE_OTLP", address)
    if protocol:
        monkeypatch.setenv("LMTRACE_OTLP_PROTOCOL", protocol)
    assert ("http/protobuf to port 4317" in lmtrace("doctor").output) is is_odd


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("jaeger", ("localhost", 4318)),
        ("honeycomb", ("api.honeycomb.io", 443)),
        ("https://collector.example/v1", ("collector.example", 443)),
        ("localhost:4317", ("localhost", 4317)),
        ("collector", ("collector", 4317)),
        ("http://[::1]:4318", ("::1", 4318)),
    ],
)
def test_endpoints(given: str, expected: tuple[str, int]) -> None:
    """Presets, URLs and host:port are all understood."""
    assert endpoint(given) == expected


def test_config(lmtrace: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting has its value and its source, and no secret is shown."""
    (tmp_path / "pyproject.toml").write_text('[tool.lmtrace]\ncapture = "metadata"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LMTRACE_OTLP", "http://me:canary-1@localhost:4318")
    monkeypatch.setenv("LMTRACE_OTLP_HEADERS", "x-honeycomb-team=canary-2")
    monkeypatch.setenv("LMTRACE_REDACT", "canary-3")
    shown = lmtrace("config")
    lines = {line["setting"]: line for line in map(json.loads, lmtrace("config", "--json").stdout.splitlines())}
    assert "canary" not in shown.output + lmtrace("config", "--json").output
    assert lines["capture"]["value"] == "metadata"
    assert "pyproject.toml" in lines["capture"]["source"]
    assert lines["otlp"] == {"setting": "otlp", "value": "http://********@localhost:4318", "source": "LMTRACE_OTLP"}
    assert lines["durability"]["source"] == "default"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(lmtrace: Command, shell: str) -> None:
    """Each shell gets a script."""
    assert "_LMTRACE_COMPLETE" in lmtrace("completion", shell).stdout


@pytest.mark.usefixtures("store")
def test_completed_names(lmtrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options that name something in the store are completed from it."""
    monkeypatch.setenv("_LMTRACE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "lmtrace ls --model ol")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert lmtrace().stdout == "plain,ollama_chat/llama3\n"
