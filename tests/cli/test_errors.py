"""What a command says when it cannot do what was asked, and its exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Command = Callable[..., Result]


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["shwo"], 2, "nearest: show"),
        (["ls", "--modle", "x"], 2, "--model"),
        (["ls", "--model", "gpt-4-mini"], 1, "nearest: openai/gpt-4o-mini"),
        (["ls", "--run", "capitls"], 1, "nearest: capitals"),
        (["ls", "--scope", "Geografy"], 1, "nearest: Geography.answer"),
        (["ls", "--since", "soonish"], 2, "write 30m, 2h, 7d"),
        (["ls", "--until", "2001-01-01"], 1, "no call fits"),
        (["show", "capitels"], 1, "nearest: capitals"),
        (["show", "0193a000"], 2, "fits several calls: 00000"),
        (["cost", "--by", "modl"], 2, "model"),
        (["search", "Ulaanbaatar"], 1, "no call holds 'Ulaanbaatar'"),
        (["search", "-E", "("], 2, "no regular expression"),
        (["sql", "select * from call"], 2, "did you mean calls"),
        (["sql"], 2, "give a query"),
        (["export", "out.xlsx"], 2, ".parquet"),
        (["export", "-", "--format", "csv"], 2, "only JSON lines"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_message(lmtrace: Command, arguments: list[str], code: int, words: str) -> None:
    """A wrong name or value is answered with the nearest valid one, on stderr, without a traceback."""
    result = lmtrace(*arguments)
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments", [["ls"], ["show"], ["cost"], ["sql", "select 1"], ["export", "-"], ["compact"]], ids=" ".join
)
def test_no_store(lmtrace: Command, tmp_path: Path, arguments: list[str]) -> None:
    """Without a store a command says where it looked and how to record, and makes none."""
    result = lmtrace(*arguments)
    assert result.exit_code == 3
    assert str(tmp_path / "store") in result.stderr
    assert "lmtrace run -- python app.py" in result.stderr
    assert not (tmp_path / "store").exists()


def test_store_off(lmtrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the store off a command says who turned it off."""
    monkeypatch.setenv("LMTRACE_STORE", "off")
    result = lmtrace("ls")
    assert result.exit_code == 3
    assert "the store is off (LMTRACE_STORE)" in result.stderr


@pytest.mark.parametrize("command", ["ls", "config"])
def test_wrong_setting(lmtrace: Command, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """A setting that does not exist is an error that names the nearest one."""
    monkeypatch.setenv("LMTRACE_DURABILTY", "power")
    result = lmtrace(command)
    assert result.exit_code == 3
    assert "durability" in result.stderr


def test_newer_store(lmtrace: Command, store: Path) -> None:
    """A store of a newer major version is refused."""
    (store / "store.json").write_text(json.dumps({"format": 99}))
    result = lmtrace("ls", "--errors")
    assert result.exit_code == 3
    assert "upgrade lmtrace" in result.stderr


def test_newer_store_newest(lmtrace: Command, store: Path) -> None:
    """It is refused on the short way to the newest calls, too."""
    (store / "store.json").write_text(json.dumps({"format": 99}))
    assert lmtrace("ls").exit_code == 3
