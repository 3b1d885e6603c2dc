"""When a request is sent again, after how long, and when not."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import litellm
import pytest

import lmtrace
from lmtrace import LMRequest, _record
from lmtrace._errors import LMRateLimitError, LMServerError
from lmtrace._retry import RetryBackend

WHO = {"llm_provider": "openai", "model": "m"}
REQUEST = LMRequest(model="openai/m", messages=[])


def broken() -> Exception:
    return litellm.InternalServerError("broken", **WHO)


def limited(**headers: str) -> Exception:
    response = httpx.Response(429, headers=headers, request=httpx.Request("POST", "http://localhost"))
    return litellm.RateLimitError("slow", "openai", "m", response=response)


class Waits(list[float]):
    """Remembers how long it was to wait, and does not."""

    async def asleep(self, seconds: float) -> None:
        self.append(seconds)


def retrying(backend: Any, waits: Waits, num_retries: int = 3, chance: float = 0.0) -> RetryBackend:
    return RetryBackend(backend, num_retries, sleep=waits.append, asleep=waits.asleep, rng=lambda: chance)


def ask(backend: RetryBackend, way: Any) -> Any:
    if type(way).__name__ == "Sync":
        return backend.complete(REQUEST, {})
    return asyncio.run(backend.acomplete(REQUEST, {}))


def read(backend: RetryBackend, way: Any) -> list[str]:
    async def aread() -> list[str]:
        return [chunk.text async for chunk in await backend.astream(REQUEST, {})]

    if type(way).__name__ == "Sync":
        return [chunk.text for chunk in backend.stream(REQUEST, {})]
    return asyncio.run(aread())


def test_delays_grow(way: Any, script: Any) -> None:
    """Each pause is twice the one before, up to a limit."""
    waits = Waits()
    answer = ask(retrying(script(*[broken() for _ in range(7)], "fine"), waits, num_retries=7), way)
    assert answer.outputs[0].text == "fine"
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_chance_spreads_the_delays(way: Any, script: Any) -> None:
    """Up to half of a pause is taken off by chance, so that many callers do not come back together."""
    waits = Waits()
    ask(retrying(script(broken(), broken(), "fine"), waits, chance=0.999999), way)
    assert waits == pytest.approx([0.25, 0.5], rel=1e-3)


def test_provider_decides_how_long(way: Any, script: Any) -> None:
    """`Retry-After` is waited for, also when it is longer than the pause would be."""
    waits = Waits()
    ask(retrying(script(limited(**{"retry-after": "30"}), limited(**{"retry-after-ms": "1"}), "fine"), waits), way)
    assert waits == [30.0, 1.0]


def test_too_long_a_wish_ends_it(way: Any, script: Any) -> None:
    """A provider that wants minutes is not asked again: the error tells how long, and the caller decides."""
    waits = Waits()
    with pytest.raises(litellm.RateLimitError):
        ask(retrying(script(limited(**{"retry-after": "3600"})), waits), way)
    assert waits == []


@pytest.mark.parametrize("num_retries", [0, 1, 3])
def test_last_error_passes_unchanged(way: Any, script: Any, num_retries: int) -> None:
    """After `num_retries` further tries the last error passes, and knows how many there were."""
    waits, failures = Waits(), [broken() for _ in range(num_retries + 1)]
    backend = script(*failures)
    with pytest.raises(litellm.InternalServerError) as caught:
        ask(retrying(backend, waits, num_retries), way)
    assert caught.value is failures[-1]
    assert (len(backend.requests), len(waits)) == (num_retries + 1, num_retries)
    assert caught.value.lmtrace_attempts == num_retries + 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "error",
    [
        litellm.AuthenticationError("x", **WHO),
        litellm.BadRequestError("x", **WHO),
        litellm.ContextWindowExceededError("x", **WHO),
        litellm.NotFoundError("x", **WHO),
        ValueError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_lasting_errors_pass_at_once(way: Any, script: Any, error: Exception) -> None:
    """What another try would meet again is not tried again."""
    waits = Waits()
    backend = script(error)
    with pytest.raises(type(error)):
        ask(retrying(backend, waits), way)
    assert (len(backend.requests), waits) == (1, [])


def test_stream_is_opened_again(way: Any, script: Any) -> None:
    """A stream that fails to open, or fails before its first chunk, is opened again; both count together."""
    waits = Waits()
    backend = script(broken(), [broken()], ["he", "llo"])
    assert read(retrying(backend, waits, num_retries=2), way) == ["he", "llo"]
    assert waits == [0.5, 1.0]


def test_begun_stream_is_not(way: Any, script: Any) -> None:
    """After the first chunk nothing is asked again: the reader has seen the beginning."""
    waits = Waits()
    backend = script(["he", broken()])
    with pytest.raises(litellm.InternalServerError):
        read(retrying(backend, waits), way)
    assert (len(backend.requests), waits) == (1, [])


def test_attempts_are_recorded(way: Any, script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history entry counts the tries, also when the answer came at last; the error does when it did not."""
    monkeypatch.setattr("lmtrace._retry.FIRST_DELAY_S", 0.0)
    lm = lmtrace.LM("openai/m", backend=script(broken(), broken(), "fine"))
    assert way.call(lm, "hi") == ["fine"]
    assert lm.history[0].attempts == 3
    with pytest.raises(LMServerError, match=r"\(after 2 attempts\)") as caught:
        way.call(lm.copy(num_retries=1, backend=script(broken())), "hi")
    assert caught.value.attempts == 2


def test_no_retries_when_not_wanted(way: Any, script: Any) -> None:
    """With `num_retries=0` the first failure is the last."""
    backend = script(limited())
    with pytest.raises(LMRateLimitError):
        way.call(lmtrace.LM("openai/m", num_retries=0, backend=backend), "hi")
    assert len(backend.requests) == 1


def test_cancellation_ends_the_waiting(script: Any) -> None:
    """A task that is cancelled while it waits for another try ends at once, with the cancellation."""
    backend = script(limited(**{"retry-after": "50"}))
    waiting = asyncio.Event

    async def main() -> None:
        begun = waiting()

        async def asleep(seconds: float) -> None:
            begun.set()
            await asyncio.sleep(seconds)

        task = asyncio.create_task(RetryBackend(backend, asleep=asleep).acomplete(REQUEST, {}))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert len(backend.requests) == 1


def test_outside_a_call_nothing_is_noted(script: Any) -> None:
    """A retry backend works without a recorder around it."""
    assert _record.active_call() is None
    assert ask(retrying(script(broken(), "fine"), Waits()), type("Sync", (), {})()).outputs[0].text == "fine"
