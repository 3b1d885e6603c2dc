"""The public helper that captures what a block records."""

from __future__ import annotations

from typing import Any

import pytest
from backends import Answering, answer, asked

import lmtrace
from lmtrace import UnknownOptionError, _recorder, _settings
from lmtrace._traced import TracedBackend
from lmtrace.testing import capture, counting_ids, fixed_clock


def program() -> None:
    with lmtrace.run("r"):
        lmtrace.LM("openai/gpt-4o-mini", backend=Answering())("Hi")


def test_the_same_every_time() -> None:
    """Two runs of one program leave the same spans, rows, entries and metrics."""
    found = []
    for _ in range(2):
        with capture(content="span_and_event") as captured:
            program()
            found.append((captured.spans, captured.rows, captured.span_rows, captured.events, captured.metrics()))
    assert found[0] == found[1]
    assert all(found[0])


def test_readable_afterwards() -> None:
    """What was captured can be read when the block has ended."""
    with capture() as captured:
        program()
    assert len(captured.spans) == len(captured.finished_spans) == 2
    assert captured.metrics()["lmtrace.calls"] == [{"attributes": {"lmtrace.served_by": "provider"}, "value": 1}]
    assert captured.entries[0].response == answer()
    assert [record.kind for record in captured.records] == ["call", "span"]


def test_everything_is_restored(tmp_path: Any) -> None:
    """Afterwards settings and recorder are those of before, even if the block configured others and failed."""
    lmtrace.configure(store=tmp_path / "mine", capture="metadata")
    recorder, settings = _recorder.current(), _settings.current()
    with pytest.raises(KeyError), capture():  # noqa: PT012 - the block is what is tested
        lmtrace.configure(store=tmp_path / "other", capture="none")
        program()
        raise KeyError
    assert (_recorder.current(), _settings.current()) == (recorder, settings)
    lmtrace.configure(metrics="off")
    assert _recorder.current().settings.capture == "metadata"
    assert not (tmp_path / "other").exists()


def test_nothing_else_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """The environment's settings do not reach into the block, and nothing is written."""
    monkeypatch.setenv("LMTRACE_CAPTURE", "none")
    with capture() as captured:
        program()
    assert captured.rows
    assert not (tmp_path / "store").exists()


def test_captures_nest() -> None:
    """An inner capture takes what is recorded in it from the outer one."""
    with capture() as outer:
        program()
        with capture() as inner:
            program()
        program()
    assert (len(outer.rows), len(inner.rows)) == (2, 1)


def test_settings() -> None:
    """Settings are given as to `configure`, and checked as there."""
    with pytest.raises(UnknownOptionError, match="did you mean 'content'"), capture(contents="span_only"):
        pass


def test_own_clock_and_ids() -> None:
    """A test may bring its own clock and its own ids."""
    with capture(clock=fixed_clock(start=0, step=1_000), new_id=lambda: "an-id") as captured:
        TracedBackend(Answering()).call(asked(), {})
    (row,) = captured.rows
    assert (row["timestamp"], row["duration_ms"], row["uuid"]) == ("1970-01-01T00:00:00.000000Z", 0.001, "an-id")


def test_the_clock() -> None:
    """Each reading is a step later."""
    clock = fixed_clock(start=5, step=2)
    assert [clock.time_ns(), clock.time_ns(), clock.perf_ns(), clock.perf_ns()] == [5, 7, 0, 2]
    assert counting_ids()() == counting_ids()()
