"""An answer that is a dictionary is read as the object it stands for, and the program gets the dictionary."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import litellm
import pytest
from hypothesis import HealthCheck, given, settings
from litellm.types.utils import Choices, Message, Usage

import lmtrace
from lmtrace.integrations.litellm import from_litellm, to_litellm

sys.path.insert(0, str(Path(__file__).parent))

import litellm_objects as objects
from capture import Captured

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=100)

MESSAGES = [{"role": "user", "content": "Mention tea."}]


class Attributes(dict[str, Any]):
    """The dictionary that many a library makes."""

    __getattr__ = dict.get


class Handler(litellm.CustomLLM):
    """A provider of a program's own; LiteLLM passes on what it returns."""

    answer: Any = None

    def completion(self, *args: Any, **kwargs: Any) -> Any:
        return self.answer

    async def acompletion(self, *args: Any, **kwargs: Any) -> Any:
        return self.answer


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Handler:
    """The provider ``mine``."""
    made = Handler()
    made.answer = Attributes(
        id="answer-1",
        object="chat.completion",
        model="tiny",
        choices=[Attributes(index=0, finish_reason="stop", message=Attributes(role="assistant", content="Tea it is."))],
        usage=Attributes(prompt_tokens=3, completion_tokens=4, total_tokens=7),
    )
    for name in ("custom_provider_map", "_custom_providers", "provider_list"):
        monkeypatch.setattr(litellm, name, list(getattr(litellm, name)))
    litellm.custom_provider_map.append({"provider": "mine", "custom_handler": made})
    return made


def ask(**kwargs: Any) -> Any:
    return litellm.completion("mine/tiny", MESSAGES, **kwargs)


def assert_recorded(captured: Captured) -> None:
    row = captured.row
    assert (row["outputs"], row["finish_reasons"], row["response_id"]) == (["Tea it is."], ["stop"], "answer-1")
    assert (row["input_tokens"], row["output_tokens"], row["total_tokens"]) == (3, 4, 7)
    assert row.get("error_type") is None


def test_a_dictionary_is_an_answer(instrumented: Captured, handler: Handler) -> None:
    """The row has its text, its counts and its id; nothing fails; the program gets the very object."""
    assert ask() is handler.answer
    assert type(handler.answer) is Attributes
    assert_recorded(instrumented)


async def test_a_dictionary_is_an_answer_async(instrumented: Captured, handler: Handler) -> None:
    """The same for the async function."""
    assert await litellm.acompletion("mine/tiny", MESSAGES) is handler.answer
    assert_recorded(instrumented)


def test_a_dictionary_is_replayed(instrumented: Captured, handler: Handler, tmp_path: Path) -> None:
    """A recording session hands the very object on; a replay has the answer, as LiteLLM's class."""
    with lmtrace.replay(tmp_path / "a.cassette", mode="rewrite"):
        assert ask() is handler.answer
    handler.answer = None
    with lmtrace.replay(tmp_path / "a.cassette"):
        answer = ask()
    assert isinstance(answer, litellm.ModelResponse)
    assert answer.choices[0].message.content == "Tea it is."
    assert answer.usage.total_tokens == 7


def test_objects_in_a_dictionary() -> None:
    """What LiteLLM's own classes hold inside of a dictionary is read, too, and what is missing is not made up."""
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    message = Message(content=None, tool_calls=[call])
    response = from_litellm({"choices": [Choices(message=message, finish_reason="tool_calls")], "usage": Usage()})
    (found,) = response.outputs[0].of_type("tool_call")
    assert (found.id, found.name, found.arguments) == ("c", "look", "{}")
    assert response.outputs[0].finish_reason == "tool_calls"
    assert (response.model, response.response_id) == (None, None)
    assert from_litellm({"choices": [{"message": {"content": "Tea."}}]}).outputs[0].finish_reason is None


def test_no_answer() -> None:
    """A dictionary with other keys is not taken for an answer."""
    with pytest.raises(TypeError, match="dict is not an answer"):
        from_litellm({"detail": "not found"})


def test_an_odd_answer_stays_the_programs(
    captured: Captured, handler: Handler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that nobody can read is a row without a text, and never an error, in a recording session neither."""
    monkeypatch.delenv("LMTRACE_TEST_RAISE", raising=False)
    lmtrace.instrument()
    try:
        for handler.answer in ({"choices": [None]}, {"detail": "not found"}):
            assert ask() is handler.answer
            with lmtrace.replay(tmp_path / "a.cassette", mode="rewrite"):
                assert ask() is handler.answer
    finally:
        lmtrace.uninstrument()
    assert [row["outputs"] for row in captured.rows] == [[""], [""]]


@relaxed
@given(objects.chat_responses())
def test_a_chat_answer_as_a_dictionary(obj: Any) -> None:
    """Read from the dump of an object, an answer is written as that object."""
    assert_same(obj, "chat")


@relaxed
@given(objects.text_responses)
def test_a_text_answer_as_a_dictionary(obj: Any) -> None:
    """The same for text completions."""
    assert_same(obj, "text")


@relaxed
@given(objects.embedding_responses)
def test_embeddings_as_a_dictionary(obj: Any) -> None:
    """The same for embeddings."""
    assert_same(obj, "embedding")


@relaxed
@given(objects.responses_answers())
def test_a_responses_answer_as_a_dictionary(obj: Any) -> None:
    """The same for the Responses interface."""
    assert_same(obj, "responses")


def assert_same(obj: Any, model_type: Any) -> None:
    dump = Attributes(obj.model_dump(warnings=False))
    before = repr(dump)
    written = to_litellm(from_litellm(dump), model_type)
    assert type(written) is type(obj)
    assert written.model_dump(warnings=False) == dict(dump)
    assert repr(dump) == before, "reading must not change the dictionary"
