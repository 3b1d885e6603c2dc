"""Large texts are serialised, searched and hashed in pieces, to the same bytes as all at once."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import lmtrace
from lmtrace import LMRequest, _keys, _large, _wire
from lmtrace._redactor import Redactor
from lmtrace.testing import capture

TEXTS = st.text(st.sampled_from('ab \r\n"\\é e\u0301\u0300\u1100\u1161\u11a8각中ㄱ\u09c7\u09be😀\u0000'), max_size=40)
ODD = st.text(st.characters(), max_size=30)
VALUES = st.recursive(
    st.none() | st.integers() | st.floats() | TEXTS | ODD | st.just("data:image/png;base64,QUJDREVGR0g="),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(ODD | st.sampled_from(["role", "content", "$lmtrace", "id"]), inner, max_size=3)
        | st.dictionaries(st.integers() | st.just("text"), inner, max_size=2)
    ),
    max_leaves=8,
)
VOLATILE = {"uuid", "timestamp", "duration_ms", "trace_id", "span_id"}
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": VALUES}), max_size=3)


class Pieces:
    """Sets the sizes for the length of a block; hypothesis runs many examples in one test."""

    def __init__(self, size: int) -> None:
        self._sizes = (size, size)

    def __enter__(self) -> None:
        self._before = (_large.LARGE, _large.PIECE)
        _large.LARGE, _large.PIECE = self._sizes  # type: ignore[misc]

    def __exit__(self, *error: object) -> None:
        _large.LARGE, _large.PIECE = self._before  # type: ignore[misc]


def request(messages: Any) -> LMRequest:
    return LMRequest(model="m", model_type="chat", messages=messages, prompt=None, kwargs={"tools": messages})


@given(MESSAGES, st.integers(1, 5))
@example([{"role": "user", "content": "a\r\n" * 9}], 3)
@example([{"role": "user", "content": "e\u0301" * 9}], 3)
@example([{"role": "user", "content": {1: "long enough"}}], 3)
@example([{"role": "user", "content": "\ud800 lone"}], 3)
def test_keys(messages: Any, size: int) -> None:
    """The canonical form of a request does not depend on how it was made."""
    whole = _keys.canonical(request(messages))
    with Pieces(size):
        assert _keys.canonical(request(messages)) == whole


@given(MESSAGES, st.integers(1, 5))
def test_json(messages: Any, size: int) -> None:
    """Nor do the texts of a row."""
    whole = _wire.dumps(messages)
    with Pieces(size):
        assert _large.dumps(messages, _wire.dumps) == whole


@given(st.binary(max_size=40), st.binary(min_size=1, max_size=6), st.integers(1, 9))
def test_searching(line: bytes, needle: bytes, size: int) -> None:
    """What lies across two pieces is found."""
    with Pieces(size):
        assert _large.find(line, needle) is (needle in line)


@pytest.mark.parametrize("at", [0, 250, 5_000])
def test_secrets_in_large_rows(at: int) -> None:
    """A key of the call is removed from a large row wherever it stands."""
    text = "x" * at + "key-of-the-call" + "x" * 5_000
    line = orjson.dumps({"messages": [{"content": text}]})
    with Pieces(256):
        clean = Redactor().line(line, {"api_key": "key-of-the-call"})
    assert b"key-of-the-call" not in clean
    assert len(orjson.loads(clean)["messages"][0]["content"]) > 5_000


class Echo:
    """Answers with what it was asked."""

    def complete(self, request: Any, secrets: Any) -> Any:
        parts = [lmtrace.LMTextPart(request.messages[0]["content"])]
        return lmtrace.LMResponse(model="m", outputs=[lmtrace.LMOutput(parts=parts, finish_reason="stop")])


def test_rows() -> None:
    """A large call has the row it would have as a small one."""
    rows = []
    for size in (_large.LARGE, 64):
        with Pieces(size), capture() as captured:
            lmtrace.LM("local/echo", backend=Echo(), num_retries=0)("Größe " * 50)  # type: ignore[arg-type]
            rows.append(captured.rows[0])
    large, small = ({name: row[name] for name in row if name not in VOLATILE} for row in rows)
    assert large == small
    assert large["prompt"] == large["messages"][0]["content"] == large["outputs"][0] == "Größe " * 50
