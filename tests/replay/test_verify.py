"""The verdict on a live answer: wording is free, structure is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

import lmtrace
from lmtrace._data import LMRefusalPart
from lmtrace_replay import RecordedError, Recording
from lmtrace_replay._verify import compared

REQUEST = lmtrace.LMRequest(model="m", messages=[])


def said(text: str | None = None, *parts: Any, finish_reason: str = "stop", times: int = 1) -> lmtrace.LMResponse:
    texts = [] if text is None else [lmtrace.LMTextPart(text)]
    output = lmtrace.LMOutput(parts=[*texts, *parts], finish_reason=finish_reason)
    return lmtrace.LMResponse(outputs=[output] * times)


def call(name: str, **arguments: Any) -> lmtrace.LMToolCallPart:
    return lmtrace.LMToolCallPart(id="x", name=name, arguments=json.dumps(arguments))


def outcome(before: lmtrace.LMResponse, now: lmtrace.LMResponse | Exception) -> tuple[str, str]:
    verdict = compared(Recording(request=REQUEST, response=before), now, REQUEST)
    return verdict.outcome, "; ".join(verdict.differences)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (said("Hello."), said("Hello.")),
        (said(None, call("f", x=1)), said(None, lmtrace.LMToolCallPart(id="y", name="f", arguments='{"x": 1}'))),
    ],
)
def test_identical(before: lmtrace.LMResponse, now: lmtrace.LMResponse) -> None:
    """The same texts and calls are identical, whatever their ids."""
    assert outcome(before, now) == ("identical", "")


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (said("Hello."), said("Good morning.")),
        (said('{"x": 1, "l": [1]}'), said('{"l": [2, 3], "x": 2.5}')),
        (said(None, call("f", x=1)), said(None, call("f", x=7))),
    ],
)
def test_benign(before: lmtrace.LMResponse, now: lmtrace.LMResponse) -> None:
    """Other words, numbers and lengths in the same structure are benign."""
    assert outcome(before, now) == ("benign", "")


@pytest.mark.parametrize(
    ("before", "now", "why"),
    [
        (said("Hello."), said("Hello.", finish_reason="length"), "ended with 'length'"),
        (said("Hello."), said(None, LMRefusalPart("No.")), "a refusal"),
        (said("Hello."), said(None, call("f")), "a tool call"),
        (said("Hello."), said(""), "empty"),
        (said("Hello."), said("Hello.", times=2), "1 candidates"),
        (said('{"x": 1}'), said('{"y": 1}'), "JSON"),
        (said('{"x": 1}'), said('{"x": "1"}'), "JSON"),
        (said(None, call("f", x=1)), said(None, call("g", x=1)), "it calls g"),
        (said(None, call("f", x=1)), said(None, call("f", y=1)), "other arguments"),
        (said("Hello."), TimeoutError("late"), "TimeoutError"),
    ],
)
def test_regression(before: lmtrace.LMResponse, now: Any, why: str) -> None:
    """What code written for the recorded answer may not understand is a regression, and the verdict says what it is."""
    found, differences = outcome(before, now)
    assert found == "regression"
    assert why in differences


def test_errors() -> None:
    """The recorded error again is identical; an answer instead of it is a regression, for the program expects an error."""
    recording = Recording(request=REQUEST, error=RecordedError(type="TimeoutError"))
    assert compared(recording, TimeoutError(), REQUEST).outcome == "identical"
    assert compared(recording, said("Hello."), REQUEST).outcome == "regression"
