"""What of a conversation is recorded where: the switches of telemetry and of the store do what they say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from backends import PROMPT, Answering, answer, asked

from lmtrace import LMOutput, LMTextPart, LMToolCallPart
from lmtrace.testing import Captured, capture

SECRET_WORDS = ("capital of France", "Paris", "look_up_city", "be brief", "STOP HERE", "Seine")


def conversation() -> dict[str, Any]:
    return {
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": PROMPT}],
        "prompt": PROMPT,
        "kwargs": {
            "tools": [{"type": "function", "function": {"name": "look_up_city", "description": "Seine"}}],
            "temperature": 0.5,
            "response_format": {"type": "json_schema", "json_schema": {"name": "Seine"}},
            "extra_body": {"hint": "Paris"},
        },
    }


def reply() -> Any:
    parts = (LMTextPart("Paris"), LMToolCallPart("call_1", "look_up_city", '{"name": "Paris"}'))
    return answer(outputs=(LMOutput(parts=parts, finish_reason="tool_calls"),), provider_data={"echo": "Paris"})


def call_both(ask: Any) -> None:
    """A call that succeeds, and one whose provider quotes the prompt in its error."""
    ask(Answering(reply()), asked(**conversation()))
    with pytest.raises(ValueError, match="France"):
        ask(Answering(ValueError(f"too long: {PROMPT}")), asked(**conversation()))


def words_in(data: Any) -> set[str]:
    text = json.dumps(data)
    return {word for word in SECRET_WORDS if word in text}


ALL = set(SECRET_WORDS) - {"STOP HERE"}


@pytest.mark.parametrize(
    ("mode", "spans", "events"),
    [
        ("no_content", set(), set()),
        ("span_only", ALL, set()),
        ("event_only", set(), ALL),
        ("span_and_event", ALL, ALL),
    ],
)
def test_telemetry(mode: str, spans: set[str], events: set[str], ask: Any) -> None:
    """Without content no word of it is in any attribute, event, status or metric; with it, all is where it was asked for."""
    with capture(content=mode) as captured:
        call_both(ask)
        assert words_in([captured.metrics()]) == set()
    assert words_in(captured.spans) == spans
    assert words_in(captured.events) == events


@pytest.mark.parametrize("parts", [3, 5, 8])
def test_not_even_a_part(parts: int, captured: Captured, ask: Any) -> None:
    """Without content no run of a few words of the prompt is in the telemetry either."""
    call_both(ask)
    words = PROMPT.split()
    recorded = json.dumps([captured.spans, captured.events, captured.metrics()])
    for start in range(len(words) - parts + 1):
        assert " ".join(words[start : start + parts]) not in recorded


def test_capture_full(ask: Any, captured: Captured) -> None:
    """By default the store keeps everything."""
    call_both(ask)
    assert words_in(captured.rows) == ALL
    assert captured.rows[0]["prompt"] == PROMPT
    assert captured.rows[1]["error_message"] == f"too long: {PROMPT}"


def test_capture_metadata(ask: Any) -> None:
    """With `metadata` rows have ids, times, tokens, cost and error types, and not a word of content."""
    with capture(capture="metadata") as captured:
        call_both(ask)
    assert words_in(captured.rows) == set()
    good, failed = captured.rows
    assert (good["input_tokens"], good["cost"], good["temperature"]) == (9, 0.00002, 0.5)
    assert good["kwargs"] == {"temperature": 0.5}
    assert failed["error_type"] == "ValueError"
    assert not {"messages", "prompt", "tools", "outputs", "response", "error_message"} & (good.keys() | failed.keys())
    assert captured.entries[0].messages == conversation()["messages"]


def test_capture_none(ask: Any) -> None:
    """With `none` there are no rows; spans and metrics stay."""
    with capture(capture="none") as captured:
        call_both(ask)
        assert captured.metrics()["lmtrace.calls"]
    assert (captured.rows, len(captured.spans)) == ([], 2)


def test_the_switches_are_independent(ask: Any) -> None:
    """What the store keeps does not depend on what telemetry shows, and the other way round."""
    with capture(capture="metadata", content="span_only") as captured:
        call_both(ask)
    assert words_in(captured.rows) == set()
    assert words_in(captured.spans) == ALL
