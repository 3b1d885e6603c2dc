"""Recordings come from wherever calls are kept, and are the same from everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lmtrace
from lmtrace.testing import LoopbackProvider
from lmtrace_exporters import compact, export_history, open_history
from lmtrace_replay._cassette import save
from lmtrace_replay._errors import CassetteError
from lmtrace_replay._format import dumps, loads
from lmtrace_replay._recording import Recording
from lmtrace_replay._sources import of_store, recordings_of


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with two answered calls, one failed one, and one with a prompt over a megabyte."""
    with LoopbackProvider() as provider:
        lm = lmtrace.LM("openai/gpt-4o-mini", api_base=f"{provider.url}/v1", api_key="sk-loopback", cache=False)
        with lmtrace.run("capitals"):
            lm("Capital of France?", temperature=0.5)
            lm(messages=[{"role": "user", "content": "Capital\nof Spain?"}], rollout_id=3)
        lm("x" * 1_200_000)
        with pytest.raises(lmtrace.LMError):
            lmtrace.LM("openai/nope", api_base="http://127.0.0.1:9/v1", api_key="k", num_retries=0, cache=False)("No?")
        entries.extend(lm.history)
    lmtrace.flush()
    return tmp_path / "store"


entries: list[Any] = []


@pytest.fixture(autouse=True)
def _no_entries() -> None:
    entries.clear()


def asked(recordings: Any) -> list[str]:
    return [str(one.request.messages[-1]["content"])[:20] for one in recordings]


EXPECTED = ["Capital of France?", "Capital\nof Spain?", "x" * 20, "No?"]


def test_the_same_from_everywhere(store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A store, compacted or not, a Parquet folder, JSON lines, rows and a cassette give the same recordings.

    A payload that a store keeps beside its rows is not in a row at hand: such a call is left out, and named.
    """
    first = recordings_of(store)
    assert asked(first) == EXPECTED
    assert first[2].request.messages[-1]["content"] == "x" * 1_200_000
    assert first[1].rollout_id == 3
    assert first[3].error is not None
    text = dumps(first)
    with open_history(store) as history:
        rows = history.recent(10)[::-1]
        export_history(history, tmp_path / "lines.jsonl", "jsonl")
        export_history(history, tmp_path / "parquet", "parquet")
    assert asked(recordings_of(tmp_path / "lines.jsonl")) == EXPECTED
    assert asked(recordings_of(tmp_path / "parquet")) == EXPECTED
    assert asked(recordings_of(rows)) == [*EXPECTED[:2], "No?"]
    assert "1 of 4 calls cannot be replayed: a payload over 1 MB" in caplog.text
    compact(store)
    assert dumps(recordings_of(store)) == text
    save(tmp_path / "x.cassette", first)
    assert dumps(recordings_of(str(tmp_path / "x.cassette"))) == text
    assert recordings_of(loads(text.encode())) == loads(text.encode()).recordings


def test_entries_and_recordings(store: Path) -> None:
    """History entries and recordings can be mixed."""
    found = recordings_of(iter([entries[0], Recording.from_entry(entries[1])]))
    assert asked(found) == EXPECTED[:2]


def test_a_condition_chooses(store: Path) -> None:
    """A condition in SQL chooses calls of a store."""
    assert asked(of_store(store, "run_name = ?", ["capitals"])) == EXPECTED[:2]


def test_ends_that_are_no_answers_are_left_out() -> None:
    """Cancelled calls, and those that ended without anything, are no recordings."""
    row = {"model": "m", "model_type": "chat", "messages": [{"role": "user", "content": "a"}], "kwargs": {}}
    assert not recordings_of([row, {**row, "error_type": "asyncio.exceptions.CancelledError"}])
    assert len(recordings_of([{**row, "error_type": "litellm.exceptions.Timeout"}])) == 1


def test_rows_without_content_are_refused() -> None:
    """What was recorded without content cannot be replayed, and the message says why."""
    row = {"model": "m", "model_type": "chat", "kwargs": {}, "response": {"outputs": [{"parts": []}]}}
    with pytest.raises(CassetteError, match="capture='metadata'"):
        recordings_of([row])


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    """An empty folder, a missing file, a wrong table and a wrong object are refused with what to pass."""
    with pytest.raises(CassetteError, match="a folder without recordings"):
        recordings_of(tmp_path)
    with pytest.raises(CassetteError, match="there is no cassette"):
        recordings_of(tmp_path / "none.cassette")
    with pytest.raises(CassetteError, match="a int is no recording"):
        recordings_of([7])
    (tmp_path / "x.jsonl").write_text("{")
    with pytest.raises(CassetteError, match="no file of JSON lines"):
        recordings_of(tmp_path / "x.jsonl")
    (tmp_path / "y.parquet").write_text(json.dumps({}))
    with pytest.raises(CassetteError, match="cannot read"):
        recordings_of(tmp_path / "y.parquet")
