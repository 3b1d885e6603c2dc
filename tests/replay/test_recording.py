"""Recordings: made from calls, rows and their own JSON form, always the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lmtrace
from lmtrace._keys import request_key
from lmtrace._traced import TracedBackend
from lmtrace_replay._recording import RecordedChunk, RecordedError, Recording

texts = st.text(max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


class Echo:
    """A backend that says what it was asked."""

    def complete(self, request: lmtrace.LMRequest, secrets: Any) -> lmtrace.LMResponse:
        if request.kwargs.get("fail"):
            raise ValueError("no")
        output = lmtrace.LMOutput(parts=[lmtrace.LMTextPart(str(request.messages))], finish_reason="stop")
        return lmtrace.LMResponse(outputs=[output], usage=lmtrace.LMUsage(input_tokens=3), cost=0.5)


class Kept:
    """An exporter that keeps rows."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def export(self, records: Any) -> None:
        self.rows.extend(record.row for record in records)

    def force_flush(self, timeout_millis: float = 0) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 0) -> None: ...


def row_of(request: lmtrace.LMRequest) -> dict[str, Any]:
    """The row that a call of `Echo` leaves."""
    kept = Kept()
    lmtrace.configure(store=None, exporters=[kept])
    try:
        TracedBackend(Echo()).complete(request, {})  # type: ignore[arg-type]
    except ValueError:
        pass
    finally:
        lmtrace.configure(exporters=[])
    return kept.rows[0]


@given(content=texts, kwargs=st.dictionaries(texts.filter(bool), values, max_size=3))
def test_row_keeps_key(content: str, kwargs: dict[str, Any]) -> None:
    """A recording made from a row, or from its JSON form, has the key of the request that was asked."""
    request = lmtrace.LMRequest(model="m", messages=[{"role": "user", "content": content}], kwargs=kwargs)
    made = Recording(request=request)
    again = Recording.from_wire(json.loads(json.dumps(made.to_wire())))
    assert again.key() == request_key(request)
    assert again == made


def test_from_row() -> None:
    """A row gives the request, the answer and where the call was made."""
    request = lmtrace.LMRequest(
        model="m",
        prompt="q",
        messages=[{"role": "user", "content": "q"}],
        kwargs={"rollout_id": 3, "tools": [{"a": 1}]},
    )
    row = row_of(request)
    recording = Recording.from_row(row)
    assert recording.request == request
    assert recording.key() == row["request_key"] == recording.request_key
    assert recording.rollout_id == 3
    assert recording.response is not None
    assert recording.response.outputs[0].text == str(request.messages)
    assert recording.uuid == row["uuid"]


def test_from_encoded_row() -> None:
    """DuckDB gives JSON columns as texts; the recording is the same."""
    row = row_of(lmtrace.LMRequest(model="m", model_type="embedding", messages="just text"))
    texts = {
        name: json.dumps(value) if name in {"messages", "kwargs", "response"} else value for name, value in row.items()
    }
    assert Recording.from_row(texts, encoded=True) == Recording.from_row(row)


def test_failed_row() -> None:
    """A failed call is a recording of its error."""
    recording = Recording.from_row(row_of(lmtrace.LMRequest(model="m", messages=[], kwargs={"fail": True})))
    assert recording.response is None
    assert recording.error is not None
    assert (recording.error.type, recording.error.message) == ("ValueError", "no")


def test_row_without_content() -> None:
    """A row that was kept as metadata only cannot be served, and says why."""
    with pytest.raises(ValueError, match="metadata"):
        Recording.from_row({"model": "m", "model_type": "chat"})


@pytest.mark.parametrize(
    "wire",
    [
        {},
        {"request": None},
        {"request": {"model": "m"}, "extra": 1},
        {"request": {"model": "m"}, "path": 3},
        {"request": {"model": "m"}, "error": {"message": "no type"}},
        {"request": {"model": "m"}, "chunks": [{"text": 1}]},
        {"request": {"model": "m"}, "chunks": ["x"]},
        [],
    ],
)
def test_damaged_wire(wire: Any) -> None:
    """What is not the JSON form of a recording is refused with the field's name."""
    with pytest.raises(ValueError, match=r"Record|LMRequest"):
        Recording.from_wire(wire)


def test_errors_and_chunks_round_trip() -> None:
    """Errors and chunks come back from JSON as they were."""
    made = Recording(
        request=lmtrace.LMRequest(model="m"),
        error=RecordedError(type="litellm.exceptions.RateLimitError", status=429, code="rate_limit", retry_after=1.5),
        chunks=[RecordedChunk(ms=1.0, text="a"), RecordedChunk(index=1, data={"x": [1]})],
        path="0.3",
        scope="RAG.answer",
    )
    assert Recording.from_wire(json.loads(json.dumps(made.to_wire()))) == made
