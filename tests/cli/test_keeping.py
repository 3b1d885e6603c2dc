"""The commands that look after a store: gc, backup, verify, rebuild-index."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from lmtrace_exporters import compact

Command = Callable[..., Result]


@pytest.fixture
def segments(store: Path) -> Path:
    """The store with its rows in segments."""
    compact(store, grace_seconds=0)
    return store


def test_gc(lmtrace: Command, segments: Path) -> None:
    """Gc says what goes, a dry run leaves it, and doing it leaves nothing to do."""
    planned = lmtrace("gc", "--older-than", "2025-02-01", "--dry-run")
    assert (planned.exit_code, planned.stdout.startswith("would forget 6 rows of 1 day (2025-01-15)")) == (0, True)
    assert lmtrace("ls").exit_code == 0
    done = lmtrace("gc", "--older-than", "2025-02-01", "--now", "--json")
    assert json.loads(done.stdout)["rows"] == 6
    assert not list(segments.rglob("*.parquet"))
    assert "nothing to forget" in lmtrace("gc", "--older-than", "2025-02-01").stderr


def test_gc_keeps_tags(
    lmtrace: Command, make_call: Callable[..., dict[str, object]], make_store: Callable[..., Path]
) -> None:
    """Rows with a kept tag stay; name=value asks for that value."""
    path = make_store([make_call(1, tags={"exp": "a"}), make_call(2, tags={"exp": "b"}), make_call(3)])
    compact(path)
    done = lmtrace("gc", "--max-size", "0", "--keep-tag", "exp=a", "--keep-tag", "golden", "--now")
    assert "kept 1 row for their tags" in done.stdout
    assert "still larger than 0 B" in done.stderr
    assert [json.loads(line)["tags"] for line in lmtrace("ls", "--json").stdout.splitlines()] == [{"exp": "a"}]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gc"], "say what to forget"),
        (["gc", "--max-size", "much"], "is no size"),
        (["gc", "--older-than", "long"], "is no time"),
        (["gc", "--max-size", "1GB", "--keep-tag", "=a"], "is no tag"),
    ],
)
def test_wrong_usage(lmtrace: Command, store: Path, arguments: list[str], words: str) -> None:
    """A wrong argument is answered with what to write instead."""
    done = lmtrace(*arguments)
    assert (done.exit_code, words in done.stderr) == (2, True)


def test_backup(lmtrace: Command, segments: Path, tmp_path: Path) -> None:
    """A backup can be read like the store, and is not made twice."""
    done = lmtrace("backup", str(tmp_path / "copy"))
    assert done.stdout.startswith("2 segments, 0 journals, 0 payloads")
    assert lmtrace("ls", "--store", str(tmp_path / "copy"), "--json").stdout == lmtrace("ls", "--json").stdout
    again = lmtrace("backup", str(tmp_path / "copy"))
    assert (again.exit_code, "exists" in again.stderr) == (3, True)


def test_verify(lmtrace: Command, segments: Path) -> None:
    """Verify ends with 1 and names the file when a bit is wrong."""
    assert (
        lmtrace("verify").stdout
        == f"6 rows in 2 segments and 0 journals, 0 payloads, {_size(segments)}: all as it was written\n"
    )
    path = next(segments.glob("segments/*/*.parquet"))
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    found = lmtrace("verify", "--json")
    assert found.exit_code == 1
    (problem,) = json.loads(found.stdout)["problems"]
    assert problem["path"] == path.relative_to(segments).as_posix()


def _size(store: Path) -> str:
    files = [*store.rglob("*.parquet"), *store.glob("filters/*")]
    return f"{sum(path.stat().st_size for path in files) / 1e3:.1f} kB"


def test_rebuild(lmtrace: Command, segments: Path) -> None:
    """A lost catalog is made again; a sound one is left alone."""
    assert lmtrace("rebuild-index").stdout == "sound, left as it is: 2 segments, 6 rows\n"
    for path in segments.glob("catalog.sqlite*"):
        path.unlink()
    assert json.loads(lmtrace("rebuild-index", "--json").stdout)["rebuilt"]
    assert json.loads(lmtrace("verify", "--json").stdout)["rows"] == 6


def test_rebuild_fills_the_cache(lmtrace: Command, segments: Path) -> None:
    """The cache's index, where there is one, is filled again, too; a store without one gets none."""
    assert json.loads(lmtrace("rebuild-index", "--json").stdout)["answers"] is None
    (segments / "index.sqlite").touch()
    assert lmtrace("rebuild-index").stdout.splitlines()[1].startswith("the cache's index has ")


@pytest.mark.parametrize("arguments", [["gc", "--max-size", "0"], ["backup", "copy"], ["verify"], ["rebuild-index"]])
def test_no_store(lmtrace: Command, tmp_path: Path, arguments: list[str]) -> None:
    """Without a store they end with 3 and make none."""
    done = lmtrace(*arguments, "--store", str(tmp_path / "none"))
    assert (done.exit_code, "no store at" in done.stderr) == (3, True)
    assert not (tmp_path / "none").exists()
