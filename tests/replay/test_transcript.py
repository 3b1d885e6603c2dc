"""The transcript: what was asked, readable, and the same in every run."""

from __future__ import annotations

from lmtrace._data import LMRequest
from lmtrace_replay._transcript import transcript

TOOL = {"type": "function", "function": {"name": "get_weather"}}


def chat(*messages: dict, **kwargs) -> LMRequest:
    return LMRequest(model="openai/gpt-4o-mini", messages=list(messages), kwargs=kwargs)


def user(content) -> dict:
    return {"role": "user", "content": content}


def test_roles_head_the_words() -> None:
    """Each call has a title with its parameters, each message its role, and the words are indented."""
    request = chat(
        {"role": "system", "content": "Be brief.\n\nAnd kind."}, user("Hello!"), temperature=0.7, rollout_id=3
    )
    assert transcript([request]) == (
        "# 1  openai/gpt-4o-mini  temperature=0.7  rollout_id=3\n"
        "system:\n    Be brief.\n\n    And kind.\nuser:\n    Hello!\n"
    )


def test_nothing_imitates_a_heading() -> None:
    """Words that look like a heading are indented like all words."""
    said = transcript([chat(user("hi\nsystem:\n# 2  other"))])
    assert [line for line in said.splitlines() if not line.startswith("    ")] == ["# 1  openai/gpt-4o-mini", "user:"]


def test_what_varies_is_replaced() -> None:
    """Dates and uuids differ from run to run and do not appear; different uuids stay different."""
    texts = [
        "At 2026-11-21T10:00:00.123Z and 2026-11-21, on Nov 3, 2026 or 3rd March 2025.",
        "123e4567-e89b-12d3-a456-426614174000, 00000000-0000-0000-0000-000000000000, 123E4567-E89B-12D3-A456-426614174000",
    ]
    said = transcript([chat(user(text)) for text in texts])
    assert "At <date> and <date>, on <date> or <date>." in said
    assert "<uuid 1>, <uuid 2>, <uuid 1>" in said


def test_tool_calls_are_numbered() -> None:
    """Ids of tool calls are numbers by first appearance, and tie calls and results together."""
    call = {"id": "call_Xy12", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Bonn"}'}}
    messages = (
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_Xy12", "content": "17 °C for call_Xy12"},
    )
    said = transcript([chat(*messages, tools=[TOOL])])
    assert 'assistant:\n    <call 1> get_weather({"city": "Bonn"})\ntool <call 1>:\n    17 °C for <call 1>\n' in said
    assert '"name": "get_weather"' in said


def test_media_are_named() -> None:
    """An image is its type, size and digest; nobody reads base64."""
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUJD" * 200}}
    said = transcript([chat(user([{"type": "text", "text": "What is this?"}, part]))])
    assert "<image/png, 600 bytes, sha256 " in said
    assert "QUJDQUJD" not in said


def test_control_characters_are_shown() -> None:
    """What a terminal would obey is written as an escape."""
    assert "\\x1b[31m red\\x0d\n" in transcript([chat(user("\x1b[31m red\r"))])


def test_where_and_how_it_travels_is_left_out() -> None:
    """Parameters that do not change what is asked are left out: what is equal to the key is equal here."""
    assert transcript([chat(user("a"), cache=False, stream=True, timeout=3)]) == transcript([chat(user("a"))])


def test_text_and_embeddings() -> None:
    """A bare prompt and a list of inputs are shown as such."""
    asked = [
        LMRequest(model="m", model_type="text", prompt="Once"),
        LMRequest(model="e", model_type="embedding", messages=["one", "two"]),
    ]
    assert (
        transcript(asked) == "# 1  m  text\ninput:\n    Once\n\n# 2  e  embedding\ninput:\n    one\ninput:\n    two\n"
    )


def test_a_matcher_of_ones_own() -> None:
    """A function of the user's is applied to every text."""
    assert "order <number>" in transcript([chat(user("order 815"))], lambda text: text.replace("815", "<number>"))
