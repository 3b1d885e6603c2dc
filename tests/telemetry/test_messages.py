"""Messages in the conventions' JSON form: every shape people send, and every odd one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmtrace import _semconv as names
from lmtrace._content import CONTENT_LIMIT, encode
from lmtrace._data import (
    LMAudioPart,
    LMCitationPart,
    LMImagePart,
    LMOtherPart,
    LMOutput,
    LMReasoningPart,
    LMRefusalPart,
    LMRequest,
    LMResponse,
    LMTextPart,
    LMToolCallPart,
)
from lmtrace._entry import HistoryEntry
from lmtrace._messages import content_attributes, input_messages, output_messages, system_instructions, tool_definitions

Entry = Callable[..., HistoryEntry]
Data = Callable[[str], Any]


def parts(content: Any) -> Any:
    """The parts of a user message."""
    (message,) = input_messages([{"role": "user", "content": content}])
    return message["parts"]


def test_a_conversation_with_tools(data: Data):
    """System text stays in the list; tool calls and their answers become parts with the same id."""
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    messages = input_messages(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather in Paris?", "name": "ann"},
            {"role": "assistant", "content": None, "reasoning_content": "Ask the tool.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "rainy"},
        ]
    )
    assert messages == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {"role": "user", "parts": [{"type": "text", "content": "Weather in Paris?"}], "name": "ann"},
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Ask the tool."},
                {"type": "tool_call", "id": "c1", "name": "weather", "arguments": {"city": "Paris"}},
            ],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "rainy"}]},
    ]
    jsonschema.validate(messages, data("input-messages"))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("hi", {"type": "text", "content": "hi"}),
        ({"type": "input_text", "text": "hi"}, {"type": "text", "content": "hi"}),
        (
            {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
            {"type": "uri", "modality": "image", "uri": "https://x/y.png"},
        ),
        (
            {"type": "input_image", "image_url": "data:image/png;base64,QUJD"},
            {"type": "blob", "modality": "image", "content": "QUJD", "mime_type": "image/png"},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "mp3"}},
            {"type": "blob", "modality": "audio", "content": "QUJD", "mime_type": "audio/mp3"},
        ),
        ({"type": "file", "file": {"file_id": "f1"}}, {"type": "file", "modality": "document", "file_id": "f1"}),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,QUJD"}},
            {"type": "blob", "modality": "document", "content": "QUJD", "mime_type": "application/pdf"},
        ),
        ({"type": "video_url", "video_url": "gs://b/v"}, {"type": "uri", "modality": "video", "uri": "gs://b/v"}),
        ({"type": "thinking", "thinking": "hm"}, {"type": "reasoning", "content": "hm"}),
        (
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
            {"type": "tool_call", "id": "t", "name": "f", "arguments": {"a": 1}},
        ),
        (
            {"type": "tool_result", "tool_use_id": "t", "content": "ok"},
            {"type": "tool_call_response", "id": "t", "response": "ok"},
        ),
        ({"type": "novel", "x": 1}, {"type": "novel", "x": 1}),
        ({"x": 1}, {"type": "other", "x": 1}),
        ({"type": "text", "x": 1}, {"type": "other", "x": 1}),
        ({"type": {"odd": 1}}, {"type": "other"}),
        ({"type": "image_url"}, {"type": "other", "modality": "image"}),
        ({"type": "input_audio", "input_audio": 3}, {"type": "other", "modality": "audio"}),
        ({"type": "file", "file": None}, {"type": "other", "modality": "document"}),
    ],
)
def test_parts(data: Data, part: Any, expected: dict[str, Any]):
    """Each content part becomes the conventions' part, or a generic one that keeps its fields."""
    assert parts([part]) == [expected]
    jsonschema.validate(input_messages([{"role": "user", "content": [part]}]), data("input-messages"))


def test_responses_items():
    """The Responses API's items that are not messages find their role."""
    assert input_messages(
        [
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{not json"},
            {"type": "function_call_output", "call_id": "c", "output": "1"},
            {"type": "reasoning", "summary": [{"text": "a"}, {"text": "b"}]},
            {"type": "message", "role": "user", "content": "hi"},
        ]
    ) == [
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c", "name": "f", "arguments": "{not json"}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "response": "1"}]},
        {"role": "assistant", "parts": [{"type": "reasoning", "content": "a\nb"}]},
        {"role": "user", "parts": [{"type": "text", "content": "hi"}]},
    ]


@pytest.mark.parametrize(
    ("messages", "prompt", "texts"),
    [
        (None, "Say hi", ["Say hi"]),
        (None, None, []),
        ("one text", None, ["one text"]),
        (["two", "texts"], None, ["two", "texts"]),
        ([1, 2, 3], None, ["[1,2,3]"]),
        ([[1, 2], [3]], None, ["[1,2]", "[3]"]),
        (7, None, ["7"]),
    ],
)
def test_inputs_that_are_no_messages(messages: Any, prompt: str | None, texts: list[str]):
    """Prompts and embedding inputs are user messages."""
    assert [message["parts"][0]["content"] for message in input_messages(messages, prompt)] == texts


def test_message_objects():
    """LiteLLM's message objects are read by their fields."""
    litellm = pytest.importorskip("litellm")
    message = litellm.Message(content="hi", role="assistant")
    assert input_messages([message]) == [{"role": "assistant", "parts": [{"type": "text", "content": "hi"}]}]


def test_answers(data: Data):
    """Each candidate is one message with its finish reason in the conventions' words."""
    everything = LMOutput(
        parts=[
            LMReasoningPart("hm"),
            LMTextPart("ok"),
            LMToolCallPart("c", "f", "{}"),
            LMRefusalPart("no"),
            LMImagePart("https://x/y"),
            LMAudioPart("QUJD", "words"),
            LMCitationPart(title="t", url="u"),
            LMOtherPart({"x": 1}),
        ],
        finish_reason="tool_calls",
    )
    messages = output_messages([everything, LMOutput()])
    assert messages[0]["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "text", "content": "ok"},
        {"type": "tool_call", "id": "c", "name": "f", "arguments": {}},
        {"type": "refusal", "content": "no"},
        {"type": "uri", "modality": "image", "uri": "https://x/y"},
        {"type": "blob", "modality": "audio", "content": "QUJD"},
        {"type": "citation", "title": "t", "url": "u"},
        {"type": "other", "provider_data": {"x": 1}},
    ]
    assert [message["finish_reason"] for message in messages] == ["tool_call", "error"]
    jsonschema.validate(messages, data("output-messages"))


def test_instructions_and_tools(make_entry: Entry, data: Data):
    """Instructions sent beside the messages, and tools, have attributes of their own."""
    tools = [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
        {"type": "function", "name": "g", "parameters": None},
        {"type": "web_search"},
        test_answers,
    ]
    request = LMRequest(
        model="openai/o", model_type="responses", messages="hi", kwargs={"tools": tools, "instructions": "x"}
    )
    attributes = content_attributes(make_entry(request=request))
    definitions = json.loads(attributes[names.TOOL_DEFINITIONS])
    assert definitions == tool_definitions(tools)
    assert [definition["name"] for definition in definitions] == ["f", "g", "web_search", "test_answers"]
    assert definitions[0]["parameters"] == {"type": "object"}
    assert json.loads(attributes[names.SYSTEM_INSTRUCTIONS]) == [{"type": "text", "content": "x"}]
    jsonschema.validate(definitions, data("tool-definitions"))
    jsonschema.validate(system_instructions("x"), data("system-instructions"))


def test_embeddings_have_no_output_messages(make_entry: Entry):
    """Vectors are no messages."""
    request = LMRequest(model="openai/e", model_type="embedding", messages=["a"])
    assert set(content_attributes(make_entry(request=request))) == {names.INPUT_MESSAGES}


class Odd:
    """An object JSON has no form for, with a secret in its repr."""

    def __repr__(self) -> str:
        return "sk-secret"


ODD: list[Any] = [
    Odd(),
    {Odd(): 1},
    Odd,
    object(),
    b"\xff",
    float("nan"),
    2**80,
    "\ud800",
    {1: 2},
    {"a": {3}},
    len,
    ...,
]


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_odd_values(make_entry: Entry, data: Data, value: Any):
    """Nothing makes content fail, and no object's own text, which may hold a key, is taken over."""
    shapes = [
        value,
        {"role": value, "content": value},
        {"role": "user", "content": [value, {"type": "text", "text": value}]},
    ]
    tools = [{"id": value, "function": {"name": value, "arguments": value}}]
    shapes.append({"role": "assistant", "tool_calls": tools})
    attributes = content_attributes(make_entry(request=LMRequest(model="m/m", messages=shapes)))
    messages = orjson.loads(attributes[names.INPUT_MESSAGES])
    jsonschema.validate(messages, data("input-messages"))
    if not isinstance(value, str):
        assert "sk-secret" not in attributes[names.INPUT_MESSAGES]


def test_circular_values(make_entry: Entry):
    """A value that contains itself ends where it begins again."""
    circle: dict[str, Any] = {"type": "novel", "long": "text" * 30_000}
    circle["again"] = circle
    attributes = content_attributes(
        make_entry(request=LMRequest(model="m/m", messages=[{"role": "user", "content": [circle]}]))
    )
    assert "<builtins.dict>" in attributes[names.INPUT_MESSAGES]


@pytest.fixture
def validator(data: Data) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(data("input-messages"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["role", "content", "type", "text", "tool_calls", "function", "image_url", "name", "arguments", "id"]
)
MESSAGES = st.lists(JSON | st.dictionaries(KEYS, JSON | st.lists(st.dictionaries(KEYS, JSON)), max_size=6), max_size=5)


@given(messages=MESSAGES, limit=st.integers(1_000, 3_000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_any_json_as_messages(validator: jsonschema.Draft202012Validator, messages: list[Any], limit: int):
    """Whatever is sent as messages gives a valid text within the limit."""
    text, _ = encode(input_messages(messages), limit)
    assert len(text.encode()) <= limit
    validator.validate(orjson.loads(text))


def conversation(turns: int, size: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"{turn} " + "ä" * size} for turn in range(turns)]


@pytest.mark.parametrize(("turns", "size"), [(1, 200_000), (5, 40_000), (40, 5_000), (20_000, 3)])
def test_long_content_is_cut(make_entry: Entry, data: Data, turns: int, size: int):
    """A text over the limit is cut to it, stays valid, keeps its end, and says that it was cut."""
    attributes = content_attributes(make_entry(request=LMRequest(model="m/m", messages=conversation(turns, size))))
    text = attributes[names.INPUT_MESSAGES]
    assert len(text.encode()) <= CONTENT_LIMIT
    messages = json.loads(text)
    jsonschema.validate(messages, data("input-messages"))
    assert attributes[names.CONTENT_TRUNCATED] is True
    assert " cut]" in text
    assert messages[-1]["parts"][0]["content"].startswith(f"{turns - 1} ")


def test_content_at_the_limit_is_whole():
    """A text that just fits is not touched."""
    items = [{"content": "x" * (1_000 - len('[{"content":""}]'))}]
    assert encode(items, 1_000) == (orjson.dumps(items).decode(), False)
    assert encode([{"content": items[0]["content"] + "x"}], 1_000)[1] is True


def test_cut_answers_and_tools_stay_valid(make_entry: Entry, data: Data):
    """The note about items left out is valid where answers and tools are described too."""
    outputs = [LMOutput(parts=[LMTextPart("y" * 50)], finish_reason="stop") for _ in range(2_000)]
    tools = [{"type": "function", "function": {"name": f"tool{number}"}} for number in range(3_000)]
    request = LMRequest(model="m/m", messages="hi", kwargs={"tools": tools})
    attributes = content_attributes(make_entry(request=request, response=LMResponse(outputs=outputs)))
    jsonschema.validate(json.loads(attributes[names.OUTPUT_MESSAGES]), data("output-messages"))
    jsonschema.validate(json.loads(attributes[names.TOOL_DEFINITIONS]), data("tool-definitions"))
    assert attributes[names.CONTENT_TRUNCATED] is True
