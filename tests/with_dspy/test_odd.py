"""What programs pass around besides text: typed requests, mocks, things without an end. None of it fails, or is lost."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from unittest import mock

import dspy
import pytest

IS_LM15 = dspy.__version__ >= "3.4"


class Answering(dspy.BaseLM):
    """An LM that answers with an object of the test's."""

    def __init__(self, message: Any, usage: Any = ()) -> None:
        super().__init__(model="custom/answering")
        self.message = message
        self.usage = usage

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        choice = SimpleNamespace(message=self.message, finish_reason="stop")
        return SimpleNamespace(model="answering", usage=self.usage, choices=[choice])


class Returning(dspy.Module):
    """A module that gives back what it gets."""

    def forward(self, value: Any) -> Any:
        return value


def _cycle() -> Any:
    found: list[Any] = []
    found += [found, found, {"again": found}]
    return found


def _example_of_itself() -> Any:
    example = dspy.Example(question="who?")
    example.itself = example
    return example


class Refusing:
    """Has no attribute, and says so in its own way."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "value",
    [mock.MagicMock(), mock.MagicMock(spec=dspy.Example), _cycle(), _example_of_itself(), Refusing()],
    ids=["mock", "mock of an example", "cycle", "example of itself", "no attributes"],
)
def test_values_without_an_end(value: Any, captured: Any) -> None:
    """A module passes on whatever it is given, and its step is recorded."""
    assert Returning()(value=value) is value
    assert [span["name"] for span in captured.spans] == ["invoke_workflow Returning"]


def test_properties_are_not_asked(captured: Any) -> None:
    """Finding a module's name and signature runs none of the program's code."""

    class Owner(dspy.Module):
        @property
        def signature(self) -> Any:
            raise RuntimeError("asked")

        @property
        def predict(self) -> Any:
            raise RuntimeError("asked")

        def forward(self) -> str:
            return "answer"

    assert Owner()() == "answer"
    assert [span["name"] for span in captured.spans] == ["invoke_workflow Owner"]


@pytest.mark.parametrize(
    "call",
    [
        SimpleNamespace(id=1, function=SimpleNamespace(name="look", arguments={"up": "Paris"})),
        {"id": 1, "function": {"name": "look", "arguments": {"up": "Paris"}}},
    ],
    ids=["object", "data"],
)
def test_calls_of_a_custom_lm(call: Any, captured: Any) -> None:
    """A tool call is kept in whatever form a custom LM gives it, its arguments as they are."""
    lm = Answering(SimpleNamespace(content="", tool_calls=[call]))
    lm("hi")
    (entry,) = captured.entries
    (part,) = [part for part in entry.response.outputs[0].parts if part.type == "tool_call"]
    assert (part.name, part.arguments) == ("look", {"up": "Paris"})


def test_an_answer_that_is_a_mock(captured: Any) -> None:
    """A program whose LM is patched gets its mock, and the call is recorded."""
    lm = Answering(mock.MagicMock())
    lm("hi")
    assert len(captured.entries) == 1


def test_a_mock_remembers_no_reader(captured: Any) -> None:
    """A test may assert on all that its mocks were asked: recording calls none of their methods."""
    usage = mock.MagicMock(**{"keys.return_value": []})
    Answering(SimpleNamespace(content="hello", tool_calls=None), usage)("hi")
    assert len(captured.entries) == 1
    assert not usage.model_dump.called


def test_a_list_of_contents(captured: Any, lm: Any) -> None:
    """What is given instead of a prompt is recorded as what the user says, whether DSPy takes it or not."""
    contents = [{"type": "text", "text": "hi"}]
    with suppress(Exception):
        lm(contents)
    assert captured.entries[0].request.messages == [{"role": "user", "content": contents}]


@pytest.mark.skipif(not IS_LM15, reason="typed requests of lm15 came with 3.4")
class TestRequestsOfLm15:
    """Typed requests that OpenAI's interface has no words for."""

    @staticmethod
    def request(**config: Any) -> Any:
        from dspy.lm15 import Config, Message, Request

        return Request(model="custom/echo", messages=(Message.user("hi"),), config=Config(max_tokens=9, **config))

    @pytest.fixture
    def echo(self) -> Any:
        from dspy.lm15 import Message, Response, Usage

        class Echo:
            def complete(self, request: Any) -> Any:
                return Response(
                    id=None, model="echo", message=Message.assistant("hi"), finish_reason="stop", usage=Usage()
                )

        return dspy.LM("custom/echo", engine=Echo(), cache=False)

    def test_refused(self, echo: Any, captured: Any) -> None:
        """A request that DSPy refuses is a call that failed, with what it asked."""
        with pytest.raises(ValueError, match="execution controls"):
            echo(self.request(extensions={"n": 2}))
        (entry,) = captured.entries
        assert entry.error.type == "ValueError"
        assert entry.request.messages == [{"role": "user", "content": "hi"}]
        assert entry.request.kwargs["max_tokens"] == 9
        assert entry.request.kwargs["extensions"] == {"n": 2}

    def test_another_engine(self, echo: Any, captured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A request that only another engine understands is answered by it, and recorded in lm15's own words."""
        import dspy.clients.lm15_boundary as boundary

        def refuse(request: Any, model_type: str) -> Any:
            raise dspy.lm15.UnsupportedFeatureError("not in this dialect")

        monkeypatch.setattr(boundary, "request_kwargs", refuse)
        assert echo(self.request(temperature=0.5)).text == "hi"
        (entry,) = captured.entries
        assert (entry.request.kwargs["max_tokens"], entry.request.kwargs["temperature"]) == (9, 0.5)


@pytest.mark.skipif(not "3.3" <= dspy.__version__ < "3.4", reason="typed messages were an experiment of 3.3")
def test_messages_by_position(lm: Any, captured: Any) -> None:
    """The typed messages of DSPy 3.3 are recorded as the messages they stand for."""
    with dspy.context(experimental=True):
        lm(dspy.System("Be brief."), dspy.User("Who wrote Hamlet?"))
    (entry,) = captured.entries
    assert entry.request.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who wrote Hamlet?"},
    ]
    assert entry.request.kwargs["temperature"] == 0.5
