"""Answers nobody scripted: plausible, deterministic, in the form the request wants."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from lmtrace.testing import LoopbackProvider


def answer(provider: LoopbackProvider, prompt: str, **more: Any) -> dict[str, Any]:
    """The first choice of a chat completion."""
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], **more}
    choice: dict[str, Any] = httpx.post(f"{provider.openai_base}/chat/completions", json=body).json()["choices"][0]
    return choice


def text(provider: LoopbackProvider, prompt: str, **more: Any) -> str:
    """The text of a chat completion."""
    return str(answer(provider, prompt, **more)["message"]["content"])


def test_facts_and_echo(provider: LoopbackProvider) -> None:
    """A known question is answered; any other prompt is said back."""
    assert text(provider, "Please tell me: what is the capital of Japan?") == "Tokyo."
    assert text(provider, "Zdravstvuyte") == "You said: Zdravstvuyte"


def test_whole_answers_are_repeatable() -> None:
    """Two providers give the same bytes for the same request, ids and times included."""
    bodies = []
    for _ in range(2):
        with LoopbackProvider() as provider:
            body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True}
            bodies.append(httpx.post(f"{provider.openai_base}/chat/completions", json=body).content)
    assert bodies[0] == bodies[1]


SCHEMA = {
    "type": "object",
    "$defs": {"Level": {"type": "string", "enum": ["low", "high"]}},
    "properties": {
        "name": {"type": "string"},
        "level": {"$ref": "#/$defs/Level"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "count": {"type": "integer", "minimum": 3},
        "share": {"type": "number"},
        "known": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
        "kind": {"const": "city"},
        "either": {"type": ["integer", "null"]},
    },
}


def test_json_schema(provider: LoopbackProvider) -> None:
    """An answer in JSON fits the schema: references, enumerations, unions, bounds."""
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    assert json.loads(text(provider, "the capital of France", response_format=wanted)) == {
        "name": "Paris.",
        "level": "low",
        "note": "Paris.",
        "count": 3,
        "share": 1.0,
        "known": True,
        "tags": ["Paris.", "Paris."],
        "kind": "city",
        "either": 1,
    }


def test_any_json(provider: LoopbackProvider) -> None:
    """Without a schema the object has the fields that DSPy's JSON adapter names, or one called answer."""
    wanted = {"type": "json_object"}
    assert json.loads(text(provider, "capital of France, as JSON", response_format=wanted)) == {"answer": "Paris."}
    prompt = "capital of France\nRespond with a JSON object in the following order of fields: `why`, then `answer`."
    assert json.loads(text(provider, prompt, response_format=wanted)) == {"why": "Paris.", "answer": "Paris."}


def test_dspy_markers(provider: LoopbackProvider) -> None:
    """A prompt of DSPy's chat adapter is answered with the field markers it asks for."""
    prompt = (
        "[[ ## question ## ]]\nWhat is the capital of France?\n\nRespond with the corresponding output fields, starting "
        "with the field `[[ ## reasoning ## ]]`, then `[[ ## answer ## ]]`, and then ending with the marker for "
        "`[[ ## completed ## ]]`."
    )
    assert text(provider, prompt) == (
        "[[ ## reasoning ## ]]\nParis.\n\n[[ ## answer ## ]]\nParis.\n\n[[ ## completed ## ]]"
    )


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_token_limit(provider: LoopbackProvider, name: str) -> None:
    """An answer longer than the limit is cut there and says so; four characters are a token."""
    choice = answer(provider, "a rather long prompt", **{name: 3})
    assert (choice["message"]["content"], choice["finish_reason"]) == ("You said: a ", "length")


def test_scripted_counts_are_kept(provider: LoopbackProvider) -> None:
    """Scripted counts win; those left out are counted."""
    provider.reply("Paris.", usage={"input_tokens": 1_000})
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    usage = httpx.post(f"{provider.openai_base}/chat/completions", json=body).json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (1_000, 2, 1_002)
