"""What `lmtrace._quick` makes is what the class itself makes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lmtrace import HistoryEntry, LMRequest, LMResponse, LMUsage, _quick
from lmtrace._data import LMOutput, LMTextPart
from lmtrace._exporter import Record

CASES: list[tuple[Any, type, dict[str, Any]]] = [
    (_quick.new_request, LMRequest, {"model": "openai/x", "stream": True}),
    (_quick.new_response, LMResponse, {"outputs": (LMOutput(),), "cost": 0.5}),
    (_quick.new_output, LMOutput, {"finish_reason": "stop"}),
    (_quick.new_text, LMTextPart, {"text": "hello"}),
    (_quick.new_usage, LMUsage, {"input_tokens": 3}),
    (_quick.new_record, Record, {"kind": "call", "line": b"{}"}),
]


@pytest.mark.parametrize(("make", "cls", "given"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_the_same_object(make: Any, cls: Any, given: dict[str, Any]) -> None:
    """It is of the class, equal to what the class makes, defaults included, and as frozen."""
    made = make(**given)
    assert type(made) is cls
    assert made == cls(**given)
    assert repr(made) == repr(cls(**given))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, next(iter(given)), None)


def test_defaults_are_no_ones_else() -> None:
    """Two objects do not share a default that can be changed."""
    assert _quick.new_request(model="a").metadata is not _quick.new_request(model="a").metadata


def test_checked() -> None:
    """What the class refuses is refused, with the same words."""
    with pytest.raises(ValueError, match="at least one LMOutput"):
        _quick.new_response(outputs=())
    with pytest.raises(TypeError, match="model"):
        _quick.new_request()


def test_entry_is_a_mapping() -> None:
    """An entry reads as DSPy's history does."""
    request = LMRequest(model="openai/x")
    entry = _quick.new_entry(uuid="u", timestamp_ns=0, duration_ms=1.0, request=request, outputs=["a"])
    assert type(entry) is HistoryEntry
    assert dict(entry)["outputs"] == ["a"]
    assert entry.details == {}
