"""The product as its users have it: the public interface, real processes, real providers' wire formats, a store on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import lmtrace
from lmtrace.testing import LoopbackProvider

PROGRAMS = Path(__file__).parent / "programs"
sys.path[:0] = [str(PROGRAMS.parent), str(PROGRAMS)]


@pytest.fixture
def store() -> Path:
    """Where the store of a test is, for this process and for those it starts."""
    return Path(os.environ["LMTRACE_STORE"])


@pytest.fixture
def query(store: Path) -> Callable[[str], list[tuple[Any, ...]]]:
    """Asks the history of the test's store in SQL, and fails when something in it cannot be served."""

    def ask(sql: str) -> list[tuple[Any, ...]]:
        with lmtrace.history(store) as history:
            found = history.sql(sql).fetchall()
            assert not history.problems
        return found

    return ask


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    """A provider on 127.0.0.1."""
    with LoopbackProvider() as running:
        yield running


@pytest.fixture
def quiet_litellm(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM without its advice on standard output, with connections that close with their event loop."""
    import litellm

    monkeypatch.setattr(litellm, "suppress_debug_info", True)
    monkeypatch.setattr(litellm, "disable_aiohttp_transport", True)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start one of the programs beside this file, as a user would; it is killed afterwards if it still runs."""
    monkeypatch.delenv("LMTRACE_TEST_RAISE")
    running = []

    def begin(program: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", PROGRAMS / program, *map(str, arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": tmp_path}
        running.append(subprocess.Popen(command, **{**pipes, **options}))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # a child of its own that hangs may hold the pipe open
            process.communicate(timeout=10)
