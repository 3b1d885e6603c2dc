"""Translation of LiteLLM's answers is lossless, through JSON too, and normalises what the field calls by different names."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings

sys.path.insert(0, str(Path(__file__).parent))

import litellm_objects as objects
from litellm.types.utils import ModelResponse

from lmtrace._data import LMResponse
from lmtrace.integrations.litellm import from_litellm, to_litellm

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=150)


def dumped(obj: Any) -> dict[str, Any]:
    """LiteLLM's dump, without pydantic's remarks on values that providers put where LiteLLM declares others."""
    found: dict[str, Any] = obj.model_dump(warnings=False)
    return found


def assert_lossless(obj: Any, model_type: Any) -> LMResponse:
    before = dumped(obj)
    response = from_litellm(obj)
    assert dumped(obj) == before, "reading must not change the object"
    assert dumped(to_litellm(response, model_type)) == before
    stored = LMResponse.from_wire(json.loads(json.dumps(response.to_wire())))
    again = to_litellm(stored, model_type)
    assert dumped(again) == before
    assert type(again) is type(obj)
    return response


@relaxed
@given(objects.chat_responses())
def test_a_chat_answer_comes_back_as_it_was(obj: ModelResponse) -> None:
    """`to_litellm(from_litellm(x))` dumps as x does, also after a journey through JSON."""
    assert_lossless(obj, "chat")


@relaxed
@given(objects.text_responses)
def test_a_text_answer_comes_back_as_it_was(obj: Any) -> None:
    """The same for text completions."""
    assert_lossless(obj, "text")


@relaxed
@given(objects.embedding_responses)
def test_embeddings_come_back_as_they_were(obj: Any) -> None:
    """The same for embeddings."""
    assert_lossless(obj, "embedding")


@relaxed
@given(objects.responses_answers())
def test_a_responses_answer_comes_back_as_it_was(obj: Any) -> None:
    """The same for the Responses interface."""
    assert_lossless(obj, "responses")
