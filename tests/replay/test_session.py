"""`lmtrace.replay`: recorded answers in the provider's place, in every mode, and misses that nothing swallows."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import lmtrace
from lmtrace import _serving
from lmtrace._backend import AsyncChunkStream, ChunkStream
from lmtrace.testing import capture
from lmtrace_replay import Recording, ReplayMiss, ReplayRegression, Session, replay


class Provider:
    """A provider that counts: each answer says how many there were before it."""

    def __init__(self, reply: Callable[[lmtrace.LMRequest, int], str] | None = None) -> None:
        self.asked: list[lmtrace.LMRequest] = []
        self._reply = reply or (lambda request, number: f"answer {number} to {text_of(request)}")
        self.error: Exception | None = None

    def complete(self, request: lmtrace.LMRequest, secrets: Any) -> lmtrace.LMResponse:
        if self.error is not None:
            raise self.error
        self.asked.append(request)
        parts = [lmtrace.LMTextPart(self._reply(request, len(self.asked)))]
        count = request.kwargs.get("n", 1)
        outputs = [lmtrace.LMOutput(parts=parts, finish_reason="stop") for _ in range(count)]
        return lmtrace.LMResponse(
            outputs=outputs,
            model="served-1",
            usage=lmtrace.LMUsage(input_tokens=3, output_tokens=2),
            cost=0.25,
            provider_data={"list": [1]},
            metadata={"cost_source": "test"},
        )

    async def acomplete(self, request: lmtrace.LMRequest, secrets: Any) -> lmtrace.LMResponse:
        return self.complete(request, secrets)

    def stream(self, request: lmtrace.LMRequest, secrets: Any) -> ChunkStream:
        return Pieces(self.complete(request, secrets))

    async def astream(self, request: lmtrace.LMRequest, secrets: Any) -> AsyncChunkStream:
        return AsyncPieces(self.complete(request, secrets))


class Pieces:
    def __init__(self, response: lmtrace.LMResponse) -> None:
        self.response = response

    def __iter__(self) -> Iterator[lmtrace.LMChunk]:
        for word in (self.response.outputs[0].text or "").split(" "):
            yield lmtrace.LMChunk(text=word + " ")

    def close(self) -> None: ...


class AsyncPieces(Pieces):
    async def __aiter__(self) -> Any:
        for chunk in Pieces.__iter__(self):
            yield chunk

    async def aclose(self) -> None: ...


def text_of(request: lmtrace.LMRequest) -> str:
    return str(request.messages[-1]["content"])


@pytest.fixture
def provider() -> Provider:
    return Provider()


def lm_of(provider: Provider, **kwargs: Any) -> lmtrace.LM:
    return lmtrace.LM("test/model", backend=provider, num_retries=0, **kwargs)  # type: ignore[arg-type]


def recorded(use: Callable[[lmtrace.LM], Any], provider: Provider | None = None, **kwargs: Any) -> list[Recording]:
    """The recordings of what `use` asks."""
    with replay(mode="rewrite") as session:
        use(lm_of(provider or Provider(), **kwargs))
    return session.recordings


def test_replays(provider: Provider) -> None:
    """A recorded answer is given with its usage and cost, flagged as replayed and not billed; nobody else is asked."""
    recordings = recorded(lambda lm: lm("hello"))
    lm = lm_of(provider)
    with lmtrace.replay(recordings) as session:
        assert lm("hello") == ["answer 1 to hello"]
    (call,) = session.calls
    assert (call.served_by, call.cost, call.billed_cost) == ("replay", 0.25, 0.0)
    assert call.response is not None
    assert call.response.usage == lmtrace.LMUsage(input_tokens=3, output_tokens=2)
    assert (session.cost, session.billed_cost) == (0.25, 0.0)
    assert lm.history[-1] is call
    assert not provider.asked


async def test_sync_and_async_share(provider: Provider) -> None:
    """What was recorded by a sync call answers an async one, and streams share with both."""
    recordings = recorded(lambda lm: lm("hello"))
    lm = lm_of(provider)
    with replay(recordings):
        assert await lm.acall("hello") == ["answer 1 to hello"]
        assert "".join(lm.stream("hello")) == "answer 1 to hello"
        assert "".join([text async for text in lm.astream("hello")]) == "answer 1 to hello"


def test_miss(provider: Provider) -> None:
    """A request without a recording is a miss, and the provider is not asked."""
    recordings = recorded(lambda lm: lm("hello"))
    lm = lm_of(provider)
    with pytest.raises(ReplayMiss, match="hello"), replay(recordings):
        lm("hello there")
    assert not provider.asked


def swallow_except(lm: lmtrace.LM) -> None:
    with contextlib.suppress(BaseException):
        lm("unknown")


def swallow_gather(lm: lmtrace.LM) -> None:
    async def ask() -> None:
        await asyncio.gather(lm.acall("unknown"), return_exceptions=True)

    asyncio.run(ask())


def swallow_pool(lm: lmtrace.LM) -> None:
    with ThreadPoolExecutor(2) as pool:
        pool.submit(lm, "unknown")


def swallow_task_group(lm: lmtrace.LM) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(lm.acall("unknown"))

    asyncio.run(main())


def swallow_retries(lm: lmtrace.LM) -> None:
    for _ in range(3):
        try:
            lm("unknown")
        except BaseException:
            continue


def swallow_bare_exception(lm: lmtrace.LM) -> None:
    try:
        lm("unknown")
    except Exception:
        pytest.fail("an ordinary handler caught the miss")


@pytest.mark.parametrize(
    "swallow",
    [swallow_except, swallow_gather, swallow_pool, swallow_task_group, swallow_retries, swallow_bare_exception],
)
def test_swallowed_miss(swallow: Callable[[lmtrace.LM], None], provider: Provider) -> None:
    """However a miss is caught inside the block, the block ends with it."""
    lm = lm_of(provider, cache=False)
    lm.num_retries = 3
    with pytest.raises(ReplayMiss, match="unknown") as caught, replay([]):
        swallow(lm)
    assert len(caught.value.misses) == (3 if swallow is swallow_retries else 1)


def test_miss_behind_failure(provider: Provider) -> None:
    """A block that fails because of a swallowed miss ends with the miss; the failure is its context."""

    def block() -> None:
        with replay([]):
            swallow_except(lm_of(provider))
            raise AssertionError("the score is 0")

    with pytest.raises(ReplayMiss) as caught:
        block()
    assert isinstance(caught.value.__context__, AssertionError)


def test_interrupt_passes(provider: Provider) -> None:
    """Ctrl-C stays Ctrl-C, whatever was missed before."""

    def block() -> None:
        with replay([]):
            swallow_except(lm_of(provider))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        block()


def test_cached_calls_repeat(provider: Provider) -> None:
    """A call that may be cached is answered the same way however often it is made, and was recorded once."""
    recordings = recorded(lambda lm: [lm("a"), lm("a")], cache=True)
    assert len(recordings) == 1
    with replay(recordings):
        lm = lm_of(provider)
        assert lm("a") == lm("a") == lm("a") == ["answer 1 to a"]


def test_uncached_calls_consume(provider: Provider) -> None:
    """A call that must not be cached consumes one occurrence each time, and then misses."""
    recordings = recorded(lambda lm: [lm("a"), lm("b"), lm("a")], cache=False)
    lm = lm_of(provider, cache=False)
    with replay(recordings):
        assert [lm("a"), lm("a"), lm("b")] == [["answer 1 to a"], ["answer 3 to a"], ["answer 2 to b"]]
    with pytest.raises(ReplayMiss) as caught, replay(recordings[:1]):
        assert lm("a") != lm("a")
    assert caught.value.miss.reason == "exhausted"


def test_errors_are_not_memoised() -> None:
    """An error that was answered by another try of the program is followed by that answer again."""
    provider = Provider()

    def use(lm: lmtrace.LM) -> list[Any]:
        provider.error = TimeoutError("late")
        with pytest.raises(lmtrace.LMTimeoutError):
            lm("a")
        provider.error = None
        return [lm("a"), lm("a")]

    live: list[Any] = []
    recordings = recorded(lambda lm: live.extend(use(lm)), provider)
    lm = lm_of(Provider())
    with replay(recordings):
        with pytest.raises(lmtrace.LMTimeoutError, match="late"):
            lm("a")
        assert [lm("a"), lm("a")] == live


def test_candidates_are_one_record(provider: Provider) -> None:
    """The n candidates of a call are one recording."""
    recordings = recorded(lambda lm: lm("a", n=3))
    assert len(recordings) == 1
    with replay(recordings):
        assert len(lm_of(provider)("a", n=3)) == 3


def test_rollouts(provider: Provider) -> None:
    """Each rollout has its own answer, and a recording without one never serves one."""
    recordings = recorded(lambda lm: [lm("a"), lm("a", rollout_id=1), lm("a", rollout_id=2)], temperature=1.0)
    lm = lm_of(provider, temperature=1.0)
    with replay(recordings):
        assert lm("a", rollout_id=2) == ["answer 3 to a"]
        assert lm("a", rollout_id=1) == ["answer 2 to a"]
        assert lm("a") == ["answer 1 to a"]
    with pytest.raises(ReplayMiss) as caught, replay(recordings):
        lm("a", rollout_id=3)
    assert caught.value.miss.reason == "rollout"


def test_mutation_stays_outside(provider: Provider) -> None:
    """What a program does to an answer is not in the next one."""
    recordings = recorded(lambda lm: lm("a"))
    lm = lm_of(provider)
    with replay(recordings):
        first = lm.forward("a")
        assert first.provider_data is not None
        first.provider_data["list"].append(2)  # type: ignore[index]
        second = lm.forward("a")
        assert second.provider_data == {"list": [1]}


class TestModes:
    def test_record_missing(self, provider: Provider) -> None:
        """Recordings answer what they can; the rest is asked for, and the two together are what is to be kept."""
        recordings = recorded(lambda lm: lm("a"))
        lm = lm_of(provider)
        with replay(recordings, mode="record-missing") as session:
            assert lm("a") == ["answer 1 to a"]
            assert lm("b") == ["answer 1 to b"]
        assert [text_of(request) for request in provider.asked] == ["b"]
        assert [text_of(one.request) for one in session.new] == ["b"]
        with replay(session.recordings):
            assert [lm("a"), lm("b")] == [["answer 1 to a"], ["answer 1 to b"]]

    def test_rewrite(self, provider: Provider) -> None:
        """Everything is asked for anew, and only that is kept; what it cost before is known first."""
        recordings = recorded(lambda lm: [lm("a"), lm("old")])
        with replay(recordings, mode="rewrite") as session:
            assert session.expected_cost == 0.5
            lm_of(provider)("a")
        assert [text_of(one.request) for one in session.recordings] == ["a"]
        assert len(provider.asked) == 1

    def test_uncached_repeats_are_asked_for(self, provider: Provider) -> None:
        """While recording, a call that must not be cached is never answered by what was recorded a moment ago."""
        with replay(mode="record-missing") as session:
            lm = lm_of(provider, cache=False)
            assert lm("a") != lm("a")
        assert len(session.new) == 2

    def test_verify(self, provider: Provider) -> None:
        """Recordings answer and the provider is asked as well: another wording is benign, the same is identical."""
        recordings = recorded(lambda lm: [lm("a"), lm("b")])
        lm = lm_of(provider)
        with replay(recordings, mode="verify") as session:
            assert lm("a") == ["answer 1 to a"]
            assert lm("b") == ["answer 2 to b"]
            assert lm("a") == ["answer 1 to a"]
        assert [verdict.outcome for verdict in session.verdicts] == ["identical", "identical", "benign"]
        assert len(session.calls) == 3

    def test_verify_sample(self, provider: Provider) -> None:
        """A share of none asks nobody."""
        recordings = recorded(lambda lm: lm("a"))
        with replay(recordings, mode="verify", sample=0.0) as session:
            lm_of(provider)("a")
        assert not provider.asked
        assert not session.verdicts

    def test_verify_regression(self) -> None:
        """An answer of another structure ends the block with an error that says what differs."""
        recordings = recorded(lambda lm: lm("a"), Provider(lambda request, number: '{"x": 1}'))
        with pytest.raises(ReplayRegression, match="JSON"), replay(recordings, mode="verify"):
            lm_of(Provider(lambda request, number: "sorry"))("a")

    def test_verify_provider_fails(self, provider: Provider) -> None:
        """A provider that fails now is a regression; the program still gets the recorded answer."""
        recordings = recorded(lambda lm: lm("a"))
        provider.error = TimeoutError("late")
        with pytest.raises(ReplayRegression, match="TimeoutError"), replay(recordings, mode="verify"):
            assert lm_of(provider)("a") == ["answer 1 to a"]

    @pytest.mark.parametrize("mode", ["live", "off"])
    def test_live(self, mode: Any, provider: Provider) -> None:
        """The provider answers and nothing is kept."""
        recordings = recorded(lambda lm: lm("a"))
        with replay(recordings, mode=mode) as session:
            lm_of(provider)("b")
        assert len(provider.asked) == 1
        assert not session.new

    def test_unknown_mode(self) -> None:
        """A mode that does not exist is refused by name."""
        with pytest.raises(lmtrace.SettingsError, match="record-missing"):
            replay(mode="recrod")  # type: ignore[arg-type]


class TestStreams:
    def test_deltas(self, provider: Provider) -> None:
        """A recorded stream gives the same pieces, and then the whole answer with its usage."""
        recordings = recorded(lambda lm: list(lm.stream("a b")))
        with replay(recordings) as session:
            stream = lm_of(provider).stream("a b")
            assert list(stream) == ["answer ", "1 ", "to ", "a ", "b "]
        assert stream.response.usage == lmtrace.LMUsage(input_tokens=3, output_tokens=2)
        assert session.calls[0].served_by == "replay"
        assert recordings[0].chunks is not None
        assert all(chunk.ms is not None for chunk in recordings[0].chunks)

    def test_left_early(self, provider: Provider) -> None:
        """A replayed stream may be left early, and says so in its record."""
        recordings = recorded(lambda lm: list(lm.stream("a b")))
        with replay(recordings):
            with lm_of(provider).stream("a b") as stream:
                assert next(stream) == "answer "
            assert stream.entry is not None
            assert stream.entry.served_by == "replay"

    def test_timing(self) -> None:
        """With `timing`, a stream waits as long as it did when it was recorded."""
        from lmtrace_replay import RecordedChunk
        from lmtrace_replay._stream import ReplayStream

        request = lmtrace.LMRequest(model="m")
        chunks = [RecordedChunk(ms=100.0, text="a"), RecordedChunk(ms=350.0, text="b"), RecordedChunk(text="c")]
        response = lmtrace.LMResponse(outputs=[lmtrace.LMOutput(parts=[lmtrace.LMTextPart("abc")])])
        waits: list[float] = []
        recording = Recording(request=request, response=response, chunks=chunks)
        stream = ReplayStream(recording, request, timing=True, sleep=waits.append)
        assert [chunk.text for chunk in stream] == ["a", "b", "c"]
        assert waits == pytest.approx([0.1, 0.25])
        assert list(ReplayStream(recording, request, sleep=waits.append))
        assert len(waits) == 2


class TestErrors:
    def test_same_class(self) -> None:
        """A recorded error comes again as the same class, with status and retry-after, at once and without retries."""
        provider = Provider()
        provider.error = lmtrace.LMRateLimitError("slow down", status=429, retry_after=30.0, model="test/model")

        def use(lm: lmtrace.LM) -> None:
            with pytest.raises(lmtrace.LMRateLimitError):
                lm("a")

        recordings = recorded(use, provider)
        lm = lmtrace.LM("test/model", backend=Provider(), num_retries=5)  # type: ignore[arg-type]
        with replay(recordings) as session, pytest.raises(lmtrace.LMRateLimitError, match="slow down") as caught:
            lm("a")
        assert (caught.value.status, caught.value.retry_after) == (429, 30.0)
        (call,) = session.calls
        assert call.served_by == "replay"
        assert call.error is not None
        assert (call.error.code, call.attempts) == ("rate_limit", 1)

    def test_cancelled_is_not_recorded(self) -> None:
        """Calls that the program gave up say nothing about the model, and are not kept."""
        provider = Provider()
        provider.error = KeyboardInterrupt()  # type: ignore[assignment]

        def use(lm: lmtrace.LM) -> None:
            with contextlib.suppress(KeyboardInterrupt):
                lm("a")

        assert not recorded(use, provider)

    def test_cancelled_is_explained(self, tmp_path: Path) -> None:
        """A call that a timeout ended while it was recorded is a miss that says so; when it got an answer after all, it is served."""

        async def use(provider: Gated) -> str:
            lm = lm_of(provider)
            asking = asyncio.create_task(lm.acall("slow"))
            assert await asyncio.to_thread(provider.entered.acquire, timeout=60)
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asking
            provider.gate.set()
            return "gave up"

        for mode in ("rewrite", "record-missing"):
            with replay(tmp_path / "x.cassette", mode=mode):  # type: ignore[arg-type]
                assert asyncio.run(use(Gated())) == "gave up"
        with (
            pytest.raises(ReplayMiss, match="cancelled this call when it was recorded"),
            replay(tmp_path / "x.cassette"),
        ):
            lm_of(Provider())("slow")
        with replay(tmp_path / "x.cassette", mode="record-missing"):
            lm_of(Provider())("slow")
        assert "cancelled" not in (tmp_path / "x.cassette").read_text()


class TestProcess:
    def test_threads_started_before(self, provider: Provider) -> None:
        """A thread that was there before the session is served like all others."""
        recordings = recorded(lambda lm: lm("a"))
        lm, go, got = lm_of(provider), threading.Event(), []
        thread = threading.Thread(target=lambda: (go.wait(60), got.append(lm("a"))))
        thread.start()
        with replay(recordings):
            go.set()
            thread.join()
        assert got == [["answer 1 to a"]]
        assert not provider.asked

    def test_ambiguous_threads(self) -> None:
        """Threads that carry no path and share answers that differ are warned of, once."""
        recordings = recorded(lambda lm: [lm("a") for _ in range(4)], cache=False)
        lm, go, got = lm_of(Provider(), cache=False), threading.Event(), []
        threads = [threading.Thread(target=lambda: (go.wait(60), got.append(lm("a")))) for _ in range(4)]
        for thread in threads:
            thread.start()

        def finish() -> None:
            go.set()
            for thread in threads:
                thread.join()

        with replay(recordings), pytest.warns(UserWarning, match="no logical path") as warned:
            finish()
        assert len([one for one in warned if one.category is UserWarning]) == 1
        assert sorted(got) == [[f"answer {number} to a"] for number in range(1, 5)]

    def test_nested(self, provider: Provider) -> None:
        """The innermost session answers, and the outer one does again after it."""
        outer, inner = recorded(lambda lm: lm("a")), recorded(lambda lm: lm("b"))
        lm = lm_of(provider)
        with replay(outer):
            with replay(inner):
                assert lm("b") == ["answer 1 to b"]
            assert lm("a") == ["answer 1 to a"]
        assert _serving.current() is None
        assert lm("c") == ["answer 1 to c"]

    def test_late_call(self, provider: Provider) -> None:
        """A request that was begun in a session and asks after its end is refused, not sent."""
        session = Session(recorded(lambda lm: lm("a")))
        with session:
            backend = session.serve(provider)  # type: ignore[arg-type]
        with pytest.raises(ReplayMiss, match="over"):
            backend.complete(lmtrace.LMRequest(model="test/model", messages=[]), {})

    def test_entered_once(self) -> None:
        """A session cannot be entered again."""
        session = replay([])
        with session:
            pass
        with pytest.raises(lmtrace.SettingsError), session:
            pass

    def test_variable_alone_changes_nothing(self, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
        """No environment variable turns replay on."""
        for name in ("LMTRACE_REPLAY", "LMTRACE_MODE", "LMTRACE_REPLAY_MODE"):
            monkeypatch.setenv(name, "replay")
        lm_of(provider)("a")
        assert len(provider.asked) == 1


class TestRaces:
    def test_streams_that_raced(self) -> None:
        """Streams asked for at once had different answers; a task that came later got one of them, and does again."""
        both, second_done = threading.Barrier(2, timeout=60), threading.Event()

        def reply(request: lmtrace.LMRequest, number: int) -> str:
            both.wait()
            if threading.current_thread().name == "first":
                assert second_done.wait(60)
            return f"for {threading.current_thread().name}"

        def use(lm: lmtrace.LM, wait: bool) -> dict[str, Any]:
            got: dict[str, Any] = {}

            def ask(name: str) -> None:
                with lm.stream("a") as stream:
                    got[name] = "".join(stream)

            def asks(name: str) -> threading.Thread:
                return threading.Thread(target=ask, args=(name,), name=name)

            first, second, third = asks("first"), asks("second"), asks("third")
            if wait:
                first.start()
                second.start()
                second.join()
                third.start()
                third.join()
                second_done.set()
                first.join()
            else:
                for thread in (first, second, third):
                    thread.start()
                    thread.join()
            return got

        with replay(mode="rewrite") as session:
            live = use(lm_of(Provider(reply)), wait=True)
        assert live["first"] != live["second"] == live["third"]
        cassette = sorted(session.recordings, key=lambda recording: recording.path or "")
        assert all(one.response is not None and one.response.metadata == {"cost_source": "test"} for one in cassette)
        with replay(cassette):
            assert use(lm_of(Provider()), wait=False) == live

    @pytest.mark.parametrize("mode", ["rewrite", "record-missing"])
    @pytest.mark.parametrize("is_async", [False, True])
    def test_identical_calls_ask_once(self, mode: Any, is_async: bool, tmp_path: Path) -> None:
        """Identical calls at the same time are recorded with one call of the provider, whoever is first: the same bytes."""
        cassettes = []
        for order in ((0, 1, 2), (2, 0, 1)):
            provider = Gated()
            with replay(tmp_path / f"{order}.cassette", mode=mode) as session:
                ask = asyncio.run(ask_tasks(provider, order)) if is_async else ask_threads(provider, order)
            assert ask == [["answer 1 to a"]] * 3
            assert len(provider.asked) == 1
            assert session.billed_cost == 0.25
            cassettes.append((tmp_path / f"{order}.cassette").read_bytes())
        assert cassettes[0] == cassettes[1]

    def test_an_answer_is_nobody_elses(self) -> None:
        """What the one that asked does to its answer reaches none of those that waited for it."""
        provider = Gated()
        with replay(mode="rewrite"):
            lm = lm_of(provider)
            with ThreadPoolExecutor(2) as pool:
                first = pool.submit(lambda: lm.forward("a").provider_data["list"].append(2))
                assert provider.entered.acquire(timeout=60)
                second = pool.submit(lambda: lm.forward("a").provider_data)
                provider.gate.set()
                first.result(60)
                assert second.result(60) == {"list": [1]}

    def test_a_failure_is_nobody_elses(self) -> None:
        """When the one that asked fails, the next asks for itself."""
        provider = Gated()
        provider.error = lmtrace.LMRateLimitError("slow down")
        with replay(mode="rewrite") as session:
            lm = lm_of(provider)
            with ThreadPoolExecutor(2) as pool:
                first = pool.submit(lm, "a")
                assert provider.entered.acquire(timeout=60)
                second = pool.submit(lm, "a")
                provider.gate.set()
                with pytest.raises(lmtrace.LMRateLimitError):
                    first.result(60)
                provider.error = None
                second.exception(60)
        assert sum(one.error is not None for one in session.new) >= 1


class Gated(Provider):
    """Answers when its gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.entered = threading.Event(), threading.Semaphore(0)

    def complete(self, request: lmtrace.LMRequest, secrets: Any) -> lmtrace.LMResponse:
        self.entered.release()
        assert self.gate.wait(60)
        return super().complete(request, secrets)

    async def acomplete(self, request: lmtrace.LMRequest, secrets: Any) -> lmtrace.LMResponse:
        self.entered.release()
        assert await asyncio.to_thread(self.gate.wait, 60)
        return Provider.complete(self, request, secrets)


def ask_threads(provider: Gated, order: tuple[int, ...]) -> list[Any]:
    """Three threads ask the same; `order[0]` asks first, and the others when it is under way."""
    lm, go, got = lm_of(provider), threading.Event(), [None] * 3

    def ask(number: int) -> None:
        assert number == order[0] or go.wait(60)
        got[number] = lm("a")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    assert provider.entered.acquire(timeout=60)
    go.set()
    provider.gate.set()
    for thread in threads:
        thread.join()
    return got


async def ask_tasks(provider: Gated, order: tuple[int, ...]) -> list[Any]:
    lm, go = lm_of(provider), asyncio.Event()

    async def ask(number: int) -> Any:
        if number != order[0]:
            await go.wait()
        return await lm.acall("a")

    tasks = [asyncio.create_task(ask(number)) for number in range(3)]
    assert await asyncio.to_thread(provider.entered.acquire, timeout=60)
    go.set()
    provider.gate.set()
    return await asyncio.gather(*tasks)


class TestStore:
    def test_not_under_pytest(self, provider: Provider) -> None:
        """While pytest runs a test, a replay writes to no store."""
        recordings = recorded(lambda lm: lm("a"))
        with replay(recordings):
            lm_of(provider)("a")
        lmtrace.flush()
        with lmtrace.history() as history:
            assert history.sql("select count(*) from calls").fetchall() == [(0,)]

    def test_when_asked(self, provider: Provider) -> None:
        """Rows of a replay say so, keep the historical cost and bill nothing."""
        recordings = recorded(lambda lm: lm("a"))
        with replay(recordings, store=True):
            lm_of(provider)("a")
        lmtrace.flush()
        with lmtrace.history() as history:
            rows = history.sql("select served_by, cost, billed_cost, cost_source from calls").fetchall()
        assert rows == [("replay", 0.25, 0.0, "test")]

    def test_spans(self, provider: Provider) -> None:
        """The span of a replayed call has no usage of its own, what was recorded beside it, and a link to the recorded span."""
        with capture() as live, replay(mode="rewrite") as session:
            lm_of(provider)("a")
        with capture() as captured, replay(session.recordings, store=True):
            lm_of(provider)("a")
        (before,), (span,) = live.finished_spans, captured.finished_spans
        assert [link.context.span_id for link in span.links] == [before.context.span_id]
        assert span.attributes is not None
        assert span.attributes["lmtrace.served_by"] == "replay"
        assert span.attributes["lmtrace.recorded.usage.input_tokens"] == 3
        assert "gen_ai.usage.input_tokens" not in span.attributes

    def test_redacted(self, tmp_path: Path, provider: Provider) -> None:
        """What a redactor took out of the stored requests does not keep live requests from finding them."""
        lmtrace.configure(store=tmp_path / "redacted", redact=["Mallory"])
        lm_of(provider)("Who is Mallory?")
        lmtrace.flush()
        with replay(tmp_path / "redacted") as session:
            assert lm_of(Provider())("Who is Mallory?") == ["answer 1 to Who is [redacted]?"]
        assert "Mallory" not in str(session.recordings)


class TestFiles:
    def test_cassette(self, tmp_path: Path, provider: Provider) -> None:
        """A recording mode writes the cassette when the block ends well, and the cassette answers after that."""
        path = tmp_path / "a.cassette"
        with lmtrace.replay(path, mode="record-missing"):
            lm_of(provider)("a")
        with lmtrace.replay(path) as session:
            assert lm_of(Provider())("a") == ["answer 1 to a"]
        assert not session.unused
        assert len(provider.asked) == 1

    def test_failed_block_writes_nothing(self, tmp_path: Path, provider: Provider) -> None:
        """A block that fails leaves the cassette as it was."""
        path = tmp_path / "a.cassette"
        with pytest.raises(ZeroDivisionError), lmtrace.replay(path, mode="rewrite"):
            _ = 1 / len(lm_of(provider)("a")[1:])
        assert not path.exists()

    def test_store_is_a_source(self, tmp_path: Path, provider: Provider) -> None:
        """What a store recorded is replayed from it, and not written to it."""
        lm_of(provider)("a")
        list(lm_of(provider, cache=False).stream("b c"))
        lmtrace.flush()
        with lmtrace.replay(tmp_path / "store"):
            assert lm_of(Provider())("a") == ["answer 1 to a"]
            assert list(lm_of(Provider()).stream("b c")) == ["answer ", "2 ", "to ", "b ", "c "]
        with pytest.raises(lmtrace.SettingsError, match="cassette"):
            lmtrace.replay(tmp_path / "store", mode="rewrite")


def test_strict_order(provider: Provider) -> None:
    """In strict order, the first request that comes out of turn is a miss, and the report names what was due."""
    recordings = recorded(lambda lm: [lm("a"), lm("b")], cache=False)
    lm = lm_of(provider, cache=False)
    with replay(recordings, order="strict"):
        assert [lm("a"), lm("b")] == [["answer 1 to a"], ["answer 2 to b"]]
    with pytest.raises(ReplayMiss) as caught, replay(recordings, order="strict"):
        lm("b")
    assert caught.value.miss.reason == "order"
    assert caught.value.miss.nearest is not None
    assert caught.value.miss.nearest.asked == "a"


def test_normalisers(provider: Provider) -> None:
    """Texts that normalisers make equal are the same request, in recordings and live."""
    recordings = recorded(lambda lm: lm("on 2026-01-01"))
    with replay(recordings, normalisers=[lambda text: text.replace("2026-01-01", "D").replace("2026-02-02", "D")]):
        assert lm_of(provider)("on 2026-02-02") == ["answer 1 to on 2026-01-01"]


def test_stale(provider: Provider) -> None:
    """A miss at a place whose recording nobody asked for is a stale recording, and the report says what it cost."""
    recordings = recorded(lambda lm: lm("the old prompt"))
    with pytest.raises(ReplayMiss) as caught, replay(recordings) as session:
        lm_of(provider)("the new prompt")
    (stale,) = session.stale
    assert text_of(stale.recorded.request) == "the old prompt"
    assert "1 recording is outdated" in caught.value.__notes__[0]
    assert "$0.25" in caught.value.__notes__[0]
