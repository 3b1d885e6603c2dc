"""lmtrace cache: what is kept, what it saved, and how to be rid of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from lmtrace_replay._cache import entry_key
from lmtrace_replay._index import Index

Command = Callable[..., Result]

NS = 1_736_931_600_000_000_000  # 2025-01-15T09:00Z


@pytest.fixture
def index(store: Path) -> Path:
    """The index of the store with two answers."""
    made = Index(store / "index.sqlite", max_bytes=1 << 30)
    for number in range(2):
        made.put(entry_key(f"lm1:{number:064x}"), b'{"response":{}}', NS + number * 60_000_000_000)
    made.close()
    return made.path


@pytest.mark.usefixtures("index")
def test_stats(lmtrace: Command) -> None:
    """Answers, their size and age, hits and what they saved."""
    result = lmtrace("cache", "stats")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("2 answers, ")
    assert lines[0].endswith(" of 10.0 GB")
    assert "2025-01-15" in lines[1]
    assert lines[2] == "1 call answered from the cache, 4 by a provider; saved $0.000033"


@pytest.mark.usefixtures("index")
def test_stats_json(lmtrace: Command) -> None:
    """The same for scripts."""
    report: dict[str, Any] = json.loads(lmtrace("cache", "stats", "--json").stdout)
    assert {
        name: report[name] for name in ("cache", "entries", "max_bytes", "ttl_seconds", "hits", "provider_calls")
    } == {
        "cache": "on",
        "entries": 2,
        "max_bytes": 10_000_000_000,
        "ttl_seconds": None,
        "hits": 1,
        "provider_calls": 4,
    }
    assert report["newest"].startswith("2025-01-15T09:01")


@pytest.mark.usefixtures("store")
def test_stats_without_an_index(lmtrace: Command) -> None:
    """A store whose index was never needed has no answers."""
    assert lmtrace("cache", "stats").stdout.startswith("0 answers")


@pytest.mark.usefixtures("index")
def test_stats_when_off(lmtrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has turned the cache off is told so, and where."""
    monkeypatch.setenv("LMTRACE_CACHE", "off")
    assert "the setting cache is off (LMTRACE_CACHE)" in lmtrace("cache", "stats").stdout


def test_clear(lmtrace: Command, index: Path) -> None:
    """All answers go, the history stays, and the index can be used again."""
    result = lmtrace("cache", "clear", "--yes")
    assert (result.exit_code, result.stdout) == (0, "2 answers removed\n")
    assert len(lmtrace("ls", "--json").stdout.splitlines()) == 5
    again = Index(index, max_bytes=1 << 30)
    assert again.figures().entries == 0
    again.put(entry_key("lm1:" + "0" * 64), b"{}", NS)
    assert again.figures().entries == 1
    again.close()


def test_clear_asks(lmtrace: Command, index: Path) -> None:
    """Without --yes one is asked, and no means no."""
    result = lmtrace("cache", "clear", input="n\n")
    assert result.exit_code == 1
    assert "Remove 2 answers" in result.stderr
    assert "2 answers" in lmtrace("cache", "stats").stdout


def test_clear_beside_a_reader(lmtrace: Command, index: Path) -> None:
    """A process that has the index open sees at its next look that it is empty."""
    reader = Index(index, max_bytes=1 << 30)
    key = entry_key("lm1:" + "0" * 64)
    assert reader.get(key) is not None
    assert lmtrace("cache", "clear", "--json", "--yes").stdout == '{"removed":2}\n'
    assert reader.get(key) is None
    reader.close()


def test_rebuild(lmtrace: Command, make_store: Callable[..., Path], make_call: Callable[..., Any]) -> None:
    """The index is filled from the rows that may be given again."""
    response = {"outputs": [{"parts": [{"type": "text", "text": "Paris"}], "finish_reason": "stop"}]}
    kept = {"cache_name": "litellm", "request_key": "lm1:" + "a" * 64, "response": response}
    make_store([make_call(1, **kept), make_call(2, **kept | {"cache_name": None}), make_call(3)])
    assert lmtrace("cache", "rebuild").stdout == "1 row with an answer to keep, 1 answer in the index\n"


def test_damaged(lmtrace: Command, index: Path) -> None:
    """A damaged index is named, with what to do about it."""
    index.write_bytes(b"no database" * 1_000)
    for command in ("stats", "rebuild", "clear"):
        result = lmtrace("cache", command, *(["--yes"] if command == "clear" else []))
        assert result.exit_code in {0, 3}, result.output
        assert result.exit_code == 0 or "remove it" in result.stderr


def test_no_store(lmtrace: Command) -> None:
    """Where there is no store the environment is at fault."""
    for arguments in (["stats"], ["clear", "--yes"], ["rebuild"]):
        assert lmtrace("cache", *arguments).exit_code == 3


@pytest.mark.usefixtures("index")
def test_gc_forgets_answers(lmtrace: Command) -> None:
    """What gc removes from the history it removes from the cache, too."""
    assert lmtrace("compact").exit_code == 0
    assert lmtrace("gc", "--older-than", "2025-01-16", "--dry-run").exit_code == 0
    assert "2 answers" in lmtrace("cache", "stats").stdout
    result = lmtrace("gc", "--older-than", "2025-01-16")
    assert result.exit_code == 0, result.output
    assert "forgot 2 answers of the cache" in result.stdout
    assert "0 answers" in lmtrace("cache", "stats").stdout


def test_verify_looks_at_the_index(lmtrace: Command, index: Path) -> None:
    """An index that is whole is no problem; an answer that differs from its checksum is one, and so is a damaged file."""
    assert lmtrace("verify").exit_code == 0
    assert "cache" in lmtrace("doctor").stdout
    with closing(sqlite3.connect(index)) as database, database:
        (table,) = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchone()
        database.execute(f"UPDATE {table} SET value = x'00112233445566'")
    done = lmtrace("verify")
    assert done.exit_code == 1
    assert "answers differ from their checksum; remove it, and `lmtrace cache rebuild" in done.stdout
    index.write_bytes(b"no database" * 1_000)
    assert "index.sqlite" in lmtrace("verify").stdout
    assert "cache" in lmtrace("doctor").stdout
    assert index.read_bytes() == b"no database" * 1_000
