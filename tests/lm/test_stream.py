"""Streamed answers: the pieces, the whole, and every way a stream can end."""

from __future__ import annotations

import gc
from typing import Any

import pytest

import lmtrace
from lmtrace._errors import LMServerError, LMTransportError


def test_pieces_and_the_whole(way: Any, script: Any) -> None:
    """Iterating gives the text as it comes; afterwards the response, the outputs and the entry are there."""
    backend = script(["Hel", "", "lo"])
    lm = lmtrace.LM("openai/m", backend=backend)
    pieces, stream = way.stream(lm, "hi", temperature=0.5)
    assert pieces == ["Hel", "lo"]
    assert (stream.response.outputs[0].text, stream.outputs) == ("Hello", ["Hello"])
    assert stream.entry is lm.history[0]
    assert (stream.entry.streamed, stream.entry["outputs"]) == (True, ["Hello"])
    assert backend.requests[0].kwargs["temperature"] == 0.5
    assert "stream" not in backend.requests[0].kwargs


def test_nothing_is_sent_before_the_first_step(script: Any) -> None:
    """A stream that nobody reads sends nothing, and says so when asked for its response."""
    backend = script(["a"])
    stream = lmtrace.LM("openai/m", backend=backend).stream("hi")
    assert backend.requests == []
    with pytest.raises(ValueError, match="first step"):
        _ = stream.response
    stream.close()


def test_reading_past_the_end_changes_nothing(script: Any) -> None:
    """A finished stream stays finished, and is in the history once."""
    lm = lmtrace.LM("openai/m", backend=script(["a"]))
    stream = lm.stream("hi")
    assert (list(stream), list(stream), next(stream, None)) == (["a"], [], None)
    stream.close()
    assert len(lm.history) == 1
    assert lm.history[0].error is None


def test_errors_are_wrapped(way: Any, script: Any) -> None:
    """An error in the middle is one of ours, keeps what arrived, and leaves no entry in the LM's history."""
    original = ConnectionResetError("gone")
    lm = lmtrace.LM("openai/m", backend=script(["a", original]))
    with pytest.raises(LMTransportError) as caught:
        way.stream(lm, "hi")
    assert caught.value.__cause__ is original
    assert lm.history == []


def test_errors_at_the_start_are_wrapped(way: Any, script: Any) -> None:
    """So is one that comes instead of the stream."""
    failing = lmtrace.LM("openai/m", num_retries=0, backend=script(TimeoutError("slow")))
    with pytest.raises(lmtrace.LMError, match="slow"):
        way.stream(failing, "hi")


def test_leaving_early(way: Any, script: Any) -> None:
    """Leaving the block stops the stream; its record has what arrived, the LM's history does not have it."""
    lm = lmtrace.LM("openai/m", backend=script(["a", "b", "c"]))
    stream = way.stop_after(2, lm, "hi")
    assert stream.response.outputs[0].text == "ab"
    assert stream.entry.error.type.endswith("StreamAbandoned")
    assert lm.history == []


def test_dropping_it(script: Any) -> None:
    """A stream that is simply dropped is recorded as abandoned when it is collected, and its callbacks are told."""

    class Listener:
        ended = 0

        def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None) -> None:
            self.ended += 1

    listener = Listener()
    lm = lmtrace.LM("openai/m", callbacks=[listener], backend=script(["a", "b"]))
    with lmtrace.run("dropped") as run:
        stream = lm.stream("hi")
        next(stream)
        del stream
        gc.collect()
    assert (run.calls, run.errors, listener.ended) == (1, 1, 1)


def test_retries_before_the_first_piece(way: Any, script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that does not begin is asked for again, and its entry counts the tries."""
    monkeypatch.setattr("lmtrace._retry.FIRST_DELAY_S", 0.0)
    lm = lmtrace.LM("openai/m", backend=script(ConnectionError("no"), [LMServerError("no")], ["a"]))
    assert way.stream(lm, "hi")[0] == ["a"]
    assert lm.history[0].attempts == 3
