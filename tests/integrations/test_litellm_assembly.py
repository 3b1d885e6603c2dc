"""A stream put together again says what the whole answer would have said, and no more than the provider did."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from litellm.types.utils import ModelResponseStream, Usage

from lmtrace._data import LMResponse
from lmtrace.integrations.litellm import assembly_for


def chunk(
    delta: dict[str, Any], *, index: int = 0, finish_reason: str | None = None, **fields: Any
) -> ModelResponseStream:
    choices = [{"delta": delta, "index": index, "finish_reason": finish_reason}]
    return ModelResponseStream(id="r1", model="m", created=1, choices=choices, **fields)


def assembled(*chunks: ModelResponseStream, stream: Any = None) -> LMResponse:
    assembly = assembly_for("chat", stream)
    for item in chunks:
        assembly.add(item)
    response = assembly.response()
    assert response is not None
    return response


@given(st.lists(st.text(max_size=4), min_size=1, max_size=8))
def test_text_is_joined(pieces: list[str]) -> None:
    """Every character, in order."""
    response = assembled(*(chunk({"content": piece}) for piece in pieces), chunk({}, finish_reason="stop"))
    assert response.outputs[0].text == "".join(pieces)
    assert response.outputs[0].finish_reason == "stop"


def test_nothing_yet_is_no_response() -> None:
    """An assembly without chunks has none."""
    assert assembly_for("chat", None).response() is None
    assert assembly_for("responses", None).response() is None


def test_tool_calls_are_joined_by_index() -> None:
    """Ids and names come once, arguments in pieces, calls interleaved."""

    def piece(index: int, arguments: str, **more: Any) -> ModelResponseStream:
        function = {"name": more.pop("name", None), "arguments": arguments}
        return chunk({"tool_calls": [{"index": index, "function": function, **more}]})

    response = assembled(
        piece(0, "", id="a", name="one"),
        piece(1, "", id="b", name="two"),
        piece(0, '{"x"'),
        piece(1, "{}"),
        piece(0, ": 1}"),
        chunk({}, finish_reason="tool_calls"),
    )
    calls = [(part.id, part.name, part.arguments) for part in response.outputs[0].of_type("tool_call")]  # type: ignore[union-attr]
    assert calls == [("a", "one", '{"x": 1}'), ("b", "two", "{}")]
    assert response.outputs[0].text is None


def test_thinking_blocks_end_at_their_signatures() -> None:
    """Pieces of thinking belong to one block until its signature comes; reasoning is their text."""

    def thought(text: str, signature: str | None = None) -> ModelResponseStream:
        block = {"type": "thinking", "thinking": text, "signature": signature or ""}
        return chunk({"reasoning_content": text, "thinking_blocks": [block]})

    response = assembled(
        thought("One "), thought("two."), thought("", "s1"), thought("Three.", "s2"), chunk({"content": "Hi"})
    )
    parts = [(part.text, part.provider_data) for part in response.outputs[0].of_type("reasoning")]  # type: ignore[union-attr]
    assert parts == [
        ("One two.", {"type": "thinking", "signature": "s1"}),
        ("Three.", {"type": "thinking", "signature": "s2"}),
    ]


def test_audio_is_joined_as_bytes() -> None:
    """Base64 pieces may each be padded, so they cannot be joined as text."""
    pieces = [{"id": "a", "data": "aGU=", "transcript": "he"}, {"data": "bGxv", "transcript": "llo", "expires_at": 5}]
    (part,) = assembled(*(chunk({"audio": piece}) for piece in pieces)).outputs[0].of_type("audio")
    assert (part.data, part.transcript) == ("aGVsbG8=", "hello")  # type: ignore[union-attr]


def test_streamed_citations_are_gathered() -> None:
    """Anthropic's arrive one by one."""
    pieces = [{"citation": {"cited_text": text, "document_title": "T"}} for text in ("a", "b")]
    response = assembled(*(chunk({"provider_specific_fields": piece}) for piece in pieces))
    assert [part.text for part in response.outputs[0].of_type("citation")] == ["a", "b"]  # type: ignore[union-attr]


def test_choices_are_kept_apart() -> None:
    """By their index, whatever the order of chunks."""
    response = assembled(chunk({"content": "b1"}, index=1), chunk({"content": "a"}), chunk({"content": "b2"}, index=1))
    assert [output.text for output in response.outputs] == ["a", "b1b2"]


def stream_with(*usages: Usage) -> Any:
    """A stream as LiteLLM keeps it: the provider's reports are in its list of chunks."""
    return SimpleNamespace(chunks=[SimpleNamespace(usage=usage) for usage in usages])


def test_usage_is_the_providers_or_unknown() -> None:
    """The sum LiteLLM estimates for the last chunk is not taken for a report."""
    last = chunk({}, finish_reason="stop")
    assert assembled(chunk({"content": "x"}), last, stream=stream_with()).usage is None
    usage = Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5)
    found = assembled(chunk({"content": "x"}), last, stream=stream_with(usage)).usage
    assert found is not None
    assert (found.input_tokens, found.output_tokens, found.total_tokens) == (3, 2, 5)


def test_reports_in_pieces_are_merged() -> None:
    """Anthropic tells the prompt at the start and the answer at the end."""
    first = Usage(prompt_tokens=30, completion_tokens=1, total_tokens=31, prompt_tokens_details={"cached_tokens": 20})
    second = Usage(prompt_tokens=0, completion_tokens=8, total_tokens=8)
    found = assembled(chunk({"content": "x"}, finish_reason="stop"), stream=stream_with(first, second)).usage
    assert found is not None
    assert (found.input_tokens, found.output_tokens, found.total_tokens, found.cache_read_tokens) == (30, 8, 38, 20)


def test_a_broken_stream_does_not_know_its_output_tokens() -> None:
    """The first report's count for the answer is a placeholder."""
    first = Usage(prompt_tokens=30, completion_tokens=1, total_tokens=31)
    found = assembled(chunk({"content": "x"}), stream=stream_with(first)).usage
    assert found is not None
    assert (found.input_tokens, found.output_tokens, found.total_tokens) == (30, None, None)
