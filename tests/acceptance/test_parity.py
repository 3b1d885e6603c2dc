"""Whatever state lmtrace is in, a call returns or raises what it does without it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import litellm
import pytest

import lmtrace
from lmtrace import LMOutput, LMRequest, LMResponse, LMTextPart, LMUsage
from lmtrace.testing import LoopbackProvider, Reply

sys.path.insert(0, str(Path(__file__).parent))

from litellm_runs import run

MODEL = "openai/gpt-4o-mini"
MESSAGES = [{"role": "user", "content": "Mention tea."}]


class RaisingExporter:
    """Fails at all it is asked to do, for as long as its test lasts."""

    error: Exception | None = ZeroDivisionError()

    def export(self, records: Sequence[Any]) -> None:
        if self.error is not None:
            raise self.error

    def force_flush(self, timeout_millis: float = 0) -> bool:
        self.export(())
        return True

    def shutdown(self, timeout_millis: float = 0) -> None:
        self.export(())


def raising_redactor(text: str) -> str:
    raise ZeroDivisionError


def broken_store(folder: Path) -> dict[str, Any]:
    (folder / "file").write_text("")
    return {"store": folder / "file"}


STATES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "as it is": lambda folder: {},
    "store broken": broken_store,
    "store off": lambda folder: {"store": None},
    "nothing captured": lambda folder: {"capture": "none"},
    "content everywhere": lambda folder: {"content": "span_and_event", "compat": "openinference", "metrics": "both"},
    "exporter raises": lambda folder: {"exporters": [RaisingExporter()]},
    "redactor raises": lambda folder: {"redact": [raising_redactor], "content": "span_and_event"},
}
"""States of lmtrace, as arguments of `configure`."""


@pytest.fixture(params=STATES)
def state(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """One of the states of lmtrace, as users have it: failures are counted, not raised."""
    monkeypatch.delenv("LMTRACE_TEST_RAISE")
    settings = STATES[request.param](tmp_path)
    lmtrace.configure(**settings)
    yield request.param
    lmtrace.uninstrument()
    for exporter in settings.get("exporters", ()):
        exporter.error = None


# --- lmtrace.LM ---------------------------------------------------------------------------------------------------------


class Fixed:
    """A backend that gives an object, or raises one."""

    def __init__(self, outcome: LMResponse | BaseException) -> None:
        self.outcome = outcome

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    async def acomplete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        return self.complete(request, secrets)

    def stream(self, request: LMRequest, secrets: Mapping[str, Any]) -> Any:
        raise NotImplementedError

    async def astream(self, request: LMRequest, secrets: Mapping[str, Any]) -> Any:
        raise NotImplementedError


ANSWER = LMResponse(
    model="m-1",
    outputs=[LMOutput(parts=[LMTextPart("Tea.")], finish_reason="stop")],
    usage=LMUsage(input_tokens=3, output_tokens=1),
    cost=0.5,
    provider_data={"odd": object()},
)


def test_lm_returns_the_backends_answer(state: str) -> None:
    """The response is the backend's own object, and the entry of the history is there."""
    lm = lmtrace.LM("local/fixed", backend=Fixed(ANSWER))
    assert lm.forward("Mention tea.") is ANSWER
    assert asyncio.run(lm.aforward("Mention tea.")) is ANSWER
    assert lm("Mention tea.") == ["Tea."]
    assert [entry["outputs"] for entry in lm.history] == [["Tea."]] * 3


@pytest.mark.parametrize("error", [ValueError("no"), TimeoutError(), RecursionError()], ids=repr)
def test_lm_raises_from_the_backends_error(state: str, error: Exception) -> None:
    """The cause of an `LMError` is the backend's own error, and it has no cause or context that it had not before."""
    lm = lmtrace.LM("local/fixed", backend=Fixed(error), num_retries=0)
    with pytest.raises(lmtrace.LMError) as caught:
        lm("Mention tea.")
    assert caught.value.__cause__ is error
    assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_lm_lets_interruptions_pass(state: str, kind: type[BaseException]) -> None:
    """What is no error of the provider passes as the same object."""
    interruption = kind()
    lm = lmtrace.LM("local/fixed", backend=Fixed(interruption))
    with pytest.raises(kind) as caught:
        lm("Mention tea.")
    assert caught.value is interruption


# --- LiteLLM called directly --------------------------------------------------------------------------------------------


def whole(**given: Any) -> Any:
    return plain(litellm.completion(MODEL, MESSAGES, **given))


def streamed(**given: Any) -> Any:
    return [plain(chunk) for chunk in litellm.completion(MODEL, MESSAGES, stream=True, **given)]


def awaited(**given: Any) -> Any:
    return plain(run(litellm.acompletion(MODEL, MESSAGES, **given)))


def async_streamed(**given: Any) -> Any:
    async def read() -> list[Any]:
        return [plain(chunk) async for chunk in await litellm.acompletion(MODEL, MESSAGES, stream=True, **given)]

    return run(read())


def embedded(**given: Any) -> Any:
    return plain(litellm.embedding("openai/text-embedding-3-small", ["tea"], **given))


def responded(**given: Any) -> Any:
    return plain(litellm.responses("Mention tea.", MODEL, **given))


def text_completed(**given: Any) -> Any:
    return plain(litellm.text_completion("Mention tea.", "text-completion-openai/gpt-3.5-turbo-instruct", **given))


WAYS = [whole, streamed, awaited, async_streamed, embedded, responded, text_completed]
PAIRS = [
    (state, way) for state in STATES for way in WAYS if state == "exporter raises" or way in (whole, async_streamed)
]
"""Every way in one of the worst states, and in every state one way with and one without a stream."""


def plain(answer: Any) -> tuple[type[Any], Any]:
    """An answer's class and its data, without what differs from call to call."""
    return type(answer), unmarked(answer.model_dump())


def unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: unmarked(item) for name, item in value.items() if name not in MARKS}
    return [unmarked(item) for item in value] if isinstance(value, list) else value


MARKS = {"id", "created", "created_at", "completed_at"}


@pytest.fixture
def given(provider: LoopbackProvider, quiet_litellm: None) -> dict[str, Any]:
    return {"api_base": provider.openai_base, "api_key": "key-0000", "max_retries": 0}


@pytest.mark.parametrize(("state", "way"), PAIRS, indirect=["state"])
def test_litellm_answers_as_without(state: str, way: Any, given: dict[str, Any], provider: LoopbackProvider) -> None:
    """The same classes with the same data, chunk by chunk."""
    provider.respond(lambda request: Reply(text="Tea, of course.", id="answer-1"))
    bare = way(**given)
    lmtrace.instrument()
    assert way(**given) == bare
    assert [request.json for request in provider.requests[:1]] == [request.json for request in provider.requests[1:]]


@pytest.mark.parametrize(("state", "way"), PAIRS, indirect=["state"])
def test_litellm_fails_as_without(state: str, way: Any, given: dict[str, Any], provider: LoopbackProvider) -> None:
    """The same class of error with the same text, status and chain of causes."""
    provider.fail(status=400, message="Not like this.", times=2)
    bare = failure(way, given)
    lmtrace.instrument()
    assert failure(way, given) == bare


def failure(way: Any, given: dict[str, Any]) -> list[tuple[Any, ...]]:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever LiteLLM raises
        way(**given)
    return list(chain(caught.value))


def chain(error: BaseException | None) -> Iterator[tuple[Any, ...]]:
    while error is not None:
        yield type(error), str(error), getattr(error, "status_code", None)
        error = error.__cause__ or error.__context__


def test_litellm_raises_the_same_object(state: str, given: dict[str, Any]) -> None:
    """The program gets the very object that was raised inside."""
    error = litellm.RateLimitError("slow down", "openai", "gpt-4o-mini")
    lmtrace.instrument()
    with pytest.raises(litellm.RateLimitError) as caught:
        litellm.completion(MODEL, MESSAGES, mock_response=error, **given)
    assert caught.value is error
