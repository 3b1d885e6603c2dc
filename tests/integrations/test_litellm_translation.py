"""Translation of LiteLLM's answers is lossless, through JSON too, and normalises what the field calls by different names."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

sys.path.insert(0, str(Path(__file__).parent))

import litellm_objects as objects
from litellm.types.utils import ModelResponse, Usage

from lmtrace._data import LMOutput, LMResponse, LMTextPart, LMToolCallPart, LMUsage
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


def chat(message: dict[str, Any], **fields: Any) -> LMResponse:
    """The normalised form of an answer with one choice."""
    finish_reason = fields.pop("finish_reason", "stop")
    return from_litellm(ModelResponse(choices=[{"message": message, "finish_reason": finish_reason}], **fields))


def test_parts_come_in_one_order() -> None:
    """Reasoning, content, refusal, images, audio, calls, citations."""
    message = {
        "content": "It rains.",
        "reasoning_content": "Clouds.",
        "images": [{"type": "image_url", "index": 0, "image_url": {"url": "data:,x"}}],
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{"}}],
        "annotations": [
            {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}
        ],
        "provider_specific_fields": {"refusal": "No."},
    }
    parts = chat(message).outputs[0].parts
    assert [part.type for part in parts] == ["reasoning", "text", "refusal", "image", "tool_call", "citation"]
    assert parts[4] == LMToolCallPart("c1", "look", "{")


def test_thinking_blocks_become_parts_with_their_signatures() -> None:
    """One part a block when the blocks hold the reasoning text; nothing is kept twice."""
    blocks = [
        {"type": "thinking", "thinking": "One. ", "signature": "s1"},
        {"type": "redacted_thinking", "data": "xx"},
        {"type": "thinking", "thinking": "Two.", "signature": "s2"},
    ]
    output = chat({"content": "Done.", "reasoning_content": "One. Two.", "thinking_blocks": blocks}).outputs[0]
    assert output.reasoning == "One. Two."
    assert [part.provider_data for part in output.of_type("reasoning")] == [
        {"type": "thinking", "signature": "s1"},
        {"type": "redacted_thinking", "data": "xx"},
        {"type": "thinking", "signature": "s2"},
    ]
    assert output.provider_data is None


def test_anthropics_citations_are_parts_too() -> None:
    """They are read from the provider's own fields, which stay as they are."""
    fields = {"citations": [[{"type": "char_location", "cited_text": "grass is green", "document_title": "Grass"}]]}
    output = chat({"content": "Green.", "provider_specific_fields": fields}).outputs[0]
    (citation,) = output.of_type("citation")
    assert (citation.title, citation.text) == ("Grass", "grass is green")  # type: ignore[union-attr]
    assert output.provider_data == {"message": {"provider_specific_fields": fields}}


def test_zero_tokens_are_unknown_tokens() -> None:
    """LiteLLM writes 0 where a provider said nothing; a real zero needs a known prompt."""
    assert counts(Usage()) == (None, None, None)
    assert counts(Usage(prompt_tokens=5, completion_tokens=0, total_tokens=5)) == (5, 0, 5)


def counts(usage: Usage) -> tuple[Any, ...]:
    found = chat({"content": "x"}, usage=usage).usage
    assert found is not None
    return found.input_tokens, found.output_tokens, found.total_tokens


def test_token_details_have_one_name() -> None:
    """Reasoning, cache reads and writes, audio on both sides."""
    usage = Usage(
        prompt_tokens=100,
        completion_tokens=20,
        total_tokens=120,
        prompt_tokens_details={"cached_tokens": 40, "audio_tokens": 3},
        completion_tokens_details={"reasoning_tokens": 7, "audio_tokens": 2},
        cache_creation_input_tokens=9,
    )
    found = chat({"content": "x"}, usage=usage).usage
    assert found is not None
    assert (found.reasoning_tokens, found.cache_read_tokens, found.cache_write_tokens, found.audio_tokens) == (
        7,
        40,
        9,
        5,
    )


def test_the_price_is_what_litellm_noted() -> None:
    """Also when it noted that it knows none: LiteLLM is not asked again."""
    answer = ModelResponse(model="gpt-4o-mini", usage=Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2))
    answer._hidden_params = {"response_cost": 0.25, "cache_hit": True}
    response = from_litellm(answer)
    assert (response.cost, response.metadata, response.cache_hit) == (0.25, {"cost_source": "litellm"}, True)
    answer._hidden_params = {"response_cost": None}
    assert from_litellm(answer).cost is None
    assert from_litellm(answer).metadata is None


def test_an_answer_without_a_note_is_priced_by_litellm(capsys: pytest.CaptureFixture[str]) -> None:
    """When its price list has the model; otherwise the price is unknown, and nothing is printed."""
    usage = Usage(prompt_tokens=1000, completion_tokens=1000, total_tokens=2000)
    assert from_litellm(ModelResponse(model="gpt-4o-mini", usage=usage)).cost == pytest.approx(0.00075)
    assert from_litellm(ModelResponse(model="nobody/knows", usage=usage)).cost is None
    assert capsys.readouterr().out == ""


def test_foreign_objects_are_refused() -> None:
    """With the names of what can be read."""
    with pytest.raises(TypeError, match="dict is not an answer of LiteLLM; expected one of ModelResponse"):
        from_litellm({})


def test_a_response_from_elsewhere_becomes_any_kind_of_answer() -> None:
    """Without a word of LiteLLM's in it: what a test or a replay made by hand."""
    response = LMResponse(
        model="m",
        outputs=[LMOutput(parts=[LMTextPart("Hi"), LMToolCallPart("c1", "look", "{}")], finish_reason="tool_calls")],
        usage=LMUsage(input_tokens=3, output_tokens=4),
        response_id="r1",
    )
    answer = to_litellm(response, "chat")
    assert answer.choices[0].message.content == "Hi"
    assert answer.choices[0].message.tool_calls[0].function.name == "look"
    assert answer.usage.total_tokens == 7
    assert to_litellm(response, "text").choices[0].text == "Hi"
    answer = to_litellm(response, "responses")
    assert answer.output_text == "Hi"
    assert [item.type for item in answer.output] == ["message", "function_call"]
    assert answer.usage.input_tokens == 3


def test_rebuilt_objects_behave_as_litellms_do() -> None:
    """Attributes that LiteLLM leaves out are absent, defaults are there, and nothing is shared between two of them."""
    response = chat({"content": "x"}, usage=Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2))
    first, second = to_litellm(response, "chat"), to_litellm(response, "chat")
    assert not hasattr(first.choices[0].message, "reasoning_content")
    assert first.choices[0].message.provider_specific_fields is None
    assert first.choices[0]["message"]["content"] == "x"
    first._hidden_params["seen"] = True
    assert second._hidden_params == {}
