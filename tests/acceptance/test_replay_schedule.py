"""Concurrent programs replay: each task gets its own answers, however it is scheduled, and re-recording changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lmtrace.testing import LoopbackProvider, ReceivedRequest, Reply

PROGRAM = Path(__file__).parent / "programs" / "scheduled.py"
TASKS = (16 + 64) * 5
"""Tasks of the program."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("LMTRACE_TEST_RAISE")
    monkeypatch.delenv("CI", raising=False)
    return tmp_path


def run(folder: Path, mode: str, calls: int, seed: int, address: str) -> dict[str, Any]:
    """The program in a process of its own; returns what it wrote down."""
    results = folder / "results.json"
    command = [sys.executable, "-W", "error", PROGRAM, mode, folder / "c.cassette", results, calls, seed, address]
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    assert not done.returncode, done.stderr[-5000:]
    outcome: dict[str, Any] = json.loads(results.read_text())
    return outcome


def answering(provider: LoopbackProvider) -> None:
    """The provider says who asks, and for the how-manieth time, as the one in the program does."""
    counts: Counter[str] = Counter()
    lock = threading.Lock()

    def respond(request: ReceivedRequest) -> Reply:
        name = request.json["user"]
        with lock:
            counts[name] += 1
            return Reply(text=f"{name} asks over HTTP for the {counts[name]}. time")

    provider.respond(respond)


def test_each_task_gets_its_own_answers(folder: Path) -> None:
    """Recorded, replayed and recorded again, each in a process and under delays of its own: not one answer astray."""
    recorded = run(folder, "rewrite", 2 * TASKS, 1, "none")
    cassette = (folder / "c.cassette").read_bytes()
    check(run(folder, "replay", 2 * TASKS, 2, "none"), recorded, 2 * TASKS)
    run(folder, "rewrite", 2 * TASKS, 3, "none")
    assert (folder / "c.cassette").read_bytes() == cassette


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_calls(folder: Path) -> None:
    """The same with a part of the calls going over HTTP to a provider, which is gone when they are replayed."""
    cassettes = []
    for seed in (4, 5):
        with LoopbackProvider() as provider:
            answering(provider)
            recorded = run(folder, "rewrite", 10_000, seed, provider.openai_base)
            assert len(provider.requests) == TASKS
        cassettes.append((folder / "c.cassette").read_bytes())
        assert recorded["asked"] == 10_000 - TASKS
    assert cassettes[0] == cassettes[1]
    check(run(folder, "replay", 10_000, 6, provider.openai_base), recorded, 10_000)


def check(replayed: dict[str, Any], recorded: dict[str, Any], calls: int) -> None:
    """Each task has its own answers, all different, and nobody was asked for them."""
    assert replayed["answers"] == recorded["answers"]
    told = [answer for each in replayed["answers"].values() for answer in each]
    assert len(told) == len(set(told)) == calls
    assert len(replayed["answers"]) == TASKS
    assert replayed["asked"] == replayed["refused"] == 0
    assert not replayed["litellm"]
