"""Inputs and outputs of agents, tools and retrievers on their spans, in the forms of the conventions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from lmtrace import _semconv as names
from lmtrace import _step_content

Data = Callable[[str], Any]


def test_agents_speak_in_messages(data: Data) -> None:
    """What an agent was asked and answered are messages that validate; its trajectory is in the spans below it."""
    asked = json.loads(_step_content.shown(names.INPUT_MESSAGES, {"question": "Why?"}, {}))
    jsonschema.validate(asked, data("input-messages"))
    assert asked[0]["parts"] == [{"type": "text", "content": "Why?"}]
    known = {names.RESPONSE_FINISH_REASONS: ("error",)}
    said = {"trajectory": {"thought_0": "so"}, "reasoning": "so", "answer": 42}
    answered = json.loads(_step_content.shown(names.OUTPUT_MESSAGES, said, known))
    jsonschema.validate(answered, data("output-messages"))
    assert answered[0]["finish_reason"] == "error"
    assert json.loads(answered[0]["parts"][0]["content"]) == {"reasoning": "so", "answer": 42}


@pytest.mark.parametrize(
    ("found", "documents"),
    [
        (["a", "b"], [{"content": "a"}, {"content": "b"}]),
        ({"passages": ["a"], "indices": [3]}, [{"content": "a"}]),
        ([{"long_text": "a", "pid": 1, "score": 0.5}], [{"id": "1", "score": 0.5, "content": "a"}]),
        ([{"place": "b"}], [{"content": {"place": "b"}}]),
        ("a", [{"content": "a"}]),
        ([], []),
    ],
)
def test_documents(found: Any, documents: Any) -> None:
    """What a retriever found is a list of objects, whatever it returned."""
    assert json.loads(_step_content.shown(names.RETRIEVAL_DOCUMENTS, found, {})) == documents


@pytest.mark.parametrize("given", ["castle", {"query": "castle", "k": 1}, {"args": ["castle"], "k": 1}])
def test_queries(given: Any) -> None:
    """What was searched for is a text."""
    assert _step_content.shown(names.RETRIEVAL_QUERY, given, {}) == "castle"
