"""A program that is recorded twice with the same answers gives the same cassette, and runs from it without a provider."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import litellm
import pytest

import lmtrace
from lmtrace.testing import LoopbackProvider
from lmtrace_replay import ReplayMiss
from lmtrace_replay._cassette import load

TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.fixture
def instrumented() -> Iterator[None]:
    lmtrace.instrument()
    yield
    lmtrace.uninstrument()


def everything(base: str) -> list[Any]:
    """A program that uses every kind of call, hands ids back to the provider, and works in threads."""
    to = {"api_base": base, "api_key": "sk-loopback"}
    lm = lmtrace.LM("openai/gpt-4o-mini", cache=False, num_retries=0, **to)
    said: list[Any] = [lm("one\ntwo\r\n"), lm("again", rollout_id=1), lm("again", rollout_id=2)]
    with lm.stream("a stream") as stream:
        said.append(list(stream))
    messages: list[dict[str, Any]] = [{"role": "user", "content": "weather?"}]
    for _ in range(2):
        answer = litellm.completion("openai/gpt-4o-mini", messages, tools=[TOOL], tool_choice="required", **to)
        message = answer.choices[0].message
        call = message.tool_calls[0]
        said.append((call.function.name, call.function.arguments))
        messages += [message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": f"sunny {call.id[:5]}"}]
    chunks = litellm.completion("openai/gpt-4o-mini", messages, stream=True, **to)
    said.append("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    first = litellm.responses(model="openai/gpt-4o-mini", input="hello", **to)
    then = litellm.responses(model="openai/gpt-4o-mini", input="more", previous_response_id=first.id, **to)
    said.append(then.output[0].content[0].text)
    said.append(len(litellm.embedding("openai/text-embedding-3-small", ["a", "b"], **to).data))
    said.append(litellm.text_completion(model="openai/gpt-3.5-turbo-instruct", prompt="p", **to).choices[0].text)
    with ThreadPoolExecutor(4) as pool:
        said += pool.map(lambda number: lm(f"task {number % 2}"), range(8))
    return said


def record(path: Path, before: int, program: Callable[[str], list[Any]]) -> list[Any]:
    """Record a program with a provider whose ids begin after `before` other calls."""
    with LoopbackProvider() as provider:
        for _ in range(before):
            litellm.completion(
                "openai/gpt-4o-mini",
                [{"role": "user", "content": "x"}],
                api_base=provider.openai_base,
                api_key="sk-loopback",
            )
        with lmtrace.replay(path, mode="rewrite"):
            return program(provider.openai_base)


@pytest.mark.usefixtures("instrumented")
def test_every_kind_of_call_is_recorded_the_same_twice_and_replayed(tmp_path: Path) -> None:
    """Other ports, ids, times and schedules leave the cassette byte-identical; from it the program says the same, offline."""
    path = tmp_path / "x.cassette"
    said = record(path, 0, everything)
    text = path.read_bytes()
    assert record(path, 3, everything) == said
    assert path.read_bytes() == text
    assert len(load(path).recordings) == 19
    with lmtrace.replay(path) as session:
        assert everything("http://127.0.0.1:9/v1") == said
        assert not session.unused


@pytest.mark.usefixtures("instrumented")
def test_a_miss_is_explained_where_it_happens(tmp_path: Path) -> None:
    """The report of a real session names cassette, nearest recording, difference, cause and fix."""
    path = tmp_path / "x.cassette"

    def program(base: str, day: str = "2026-11-20") -> list[Any]:
        lm = lmtrace.LM("openai/gpt-4o-mini", cache=False, num_retries=0, api_base=base, api_key="sk-loopback")
        return lm(f"Today is {day}. What day is it?")

    record(path, 0, program)
    with pytest.raises(ReplayMiss) as caught, lmtrace.replay(path):
        program("http://127.0.0.1:9/v1", "2026-11-21")
    text = str(caught.value)
    for part in (str(path), "2026-11-[-20-]{+21+}. What day", "differs only by a date", "--lmtrace-mode=rewrite"):
        assert part in text


@pytest.mark.usefixtures("instrumented")
def test_a_cassette_of_a_store_is_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program left in the store becomes a cassette from which it runs offline: from production to test."""
    from lmtrace_replay._cassette import save
    from lmtrace_replay._sources import recordings_of

    with LoopbackProvider() as provider:
        said = everything(provider.openai_base)
    lmtrace.flush()
    save(tmp_path / "x.cassette", recordings_of(tmp_path / "store"))
    assert json.loads((tmp_path / "x.cassette").read_bytes())["format"] == 1
    with lmtrace.replay(tmp_path / "x.cassette"):
        assert everything("http://127.0.0.1:9/v1")[:-8] == said[:-8]
