"""Identical requests at the same time: one call of the provider, whoever asks, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from tellers import Teller

import lmtrace
from lmtrace import _caching
from lmtrace_replay import _flights

DEADLINE_S = 60.0


def waiting() -> int:
    """How many calls wait for another's answer."""
    cache: Any = _caching.current()
    return sum(len(flight._wakers) for flight in list(cache.flights._flying.values()))


async def until_waiting(count: int) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while waiting() < count:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.001)


def texts(futures: list[Future[Any]]) -> list[Any]:
    return [future.result(DEADLINE_S)[0] for future in futures]


def in_threads(lm: lmtrace.LM, count: int, pool: ThreadPoolExecutor) -> list[Future[Any]]:
    return [pool.submit(lm, "hi") for _ in range(count)]


class TestOneCall:
    @pytest.mark.parametrize("name", ["teller", None])
    def test_threads(self, name: str | None) -> None:
        """Sixteen threads make one call, and all but one are told that it was a cache hit."""
        teller = Teller(name=name, gate=threading.Event())
        lm = teller.lm()
        with ThreadPoolExecutor(16) as pool:
            futures = in_threads(lm, 16, pool)
            asyncio.run(until_waiting(15))
            teller.gate.set()  # type: ignore[union-attr]
            assert texts(futures) == ["told 1"] * 16
        assert len(teller.requests) == 1
        assert sorted(entry.served_by for entry in lm.history) == ["cache"] * 15 + ["provider"]

    def test_tasks(self) -> None:
        """So do sixteen tasks."""
        teller = Teller(gate=threading.Event())
        lm = teller.lm()

        async def main() -> list[Any]:
            tasks = [asyncio.create_task(lm.acall("hi")) for _ in range(16)]
            await until_waiting(15)
            teller.gate.set()  # type: ignore[union-attr]
            return await asyncio.gather(*tasks)

        assert asyncio.run(main()) == [["told 1"]] * 16
        assert len(teller.requests) == 1

    @pytest.mark.parametrize("first", ["thread", "task"])
    def test_threads_and_tasks(self, first: str) -> None:
        """And threads and tasks together, whichever came first."""
        teller = Teller(gate=threading.Event())
        lm = teller.lm()

        async def main() -> list[Any]:
            asks = [lambda: asyncio.to_thread(lm, "hi"), lambda: lm.acall("hi")]
            tasks = [asyncio.ensure_future(asks[first == "task"]())]
            await asyncio.to_thread(teller.entered.acquire)
            tasks += [asyncio.ensure_future(asks[number % 2]()) for number in range(6)]
            await until_waiting(6)
            teller.gate.set()  # type: ignore[union-attr]
            return await asyncio.gather(*tasks)

        assert asyncio.run(main()) == [["told 1"]] * 7
        assert len(teller.requests) == 1

    def test_loops_in_threads(self) -> None:
        """Tasks of different event loops wait for each other."""
        teller = Teller(gate=threading.Event())
        lm = teller.lm()
        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(lambda: asyncio.run(lm.acall("hi"))) for _ in range(4)]
            asyncio.run(until_waiting(3))
            teller.gate.set()  # type: ignore[union-attr]
            assert texts(futures) == ["told 1"] * 4
        assert len(teller.requests) == 1

    def test_streams_wait(self) -> None:
        """A stream beside an identical call is the answer of that call."""
        teller = Teller(gate=threading.Event())
        lm = teller.lm()
        with ThreadPoolExecutor(2) as pool:
            call = pool.submit(lm, "hi")
            assert teller.entered.acquire(timeout=DEADLINE_S)
            stream = pool.submit(lambda: list(lm.stream("hi")))
            asyncio.run(until_waiting(1))
            teller.gate.set()  # type: ignore[union-attr]
            assert (call.result(DEADLINE_S), stream.result(DEADLINE_S)) == (["told 1"], ["told 1"])
        assert len(teller.requests) == 1

    def test_calls_wait_for_streams(self) -> None:
        """And a call beside an identical stream has what the stream brought."""
        teller = Teller("one two")
        lm = teller.lm()
        with ThreadPoolExecutor(2) as pool, lm.stream("hi") as stream:
            next(stream)
            call = pool.submit(lm, "hi")
            asyncio.run(until_waiting(1))
            assert list(stream) == [" two"]
            assert call.result(DEADLINE_S) == ["one two"]
        assert len(teller.requests) == 1

    def test_answers_nobody_keeps(self) -> None:
        """Who waits gets the answer even if it is too large for the memory and not written."""
        lmtrace.configure(store=None, cache_memory_bytes=16)
        teller = Teller(gate=threading.Event())
        lm = teller.lm()
        with ThreadPoolExecutor(4) as pool:
            futures = in_threads(lm, 4, pool)
            asyncio.run(until_waiting(3))
            teller.gate.set()  # type: ignore[union-attr]
            assert texts(futures) == ["told 1"] * 4
        assert len(teller.requests) == 1

    def test_copies(self) -> None:
        """Everybody gets a copy of their own."""
        teller = Teller(gate=threading.Event())
        lm = teller.lm()
        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(lm.forward, "hi") for _ in range(4)]
            asyncio.run(until_waiting(3))
            teller.gate.set()  # type: ignore[union-attr]
            usages = [future.result(DEADLINE_S).usage.details for future in futures]
        assert len({id(usage) for usage in usages}) == 4


class TestFailures:
    def test_the_next_one_asks(self) -> None:
        """When the call fails, one of those who waited asks; its answer serves the others."""
        teller = Teller(ValueError("no"), "yes", gate=threading.Event())
        go_on = threading.Event()
        teller.inside = lambda: go_on.wait(DEADLINE_S)
        lm = teller.lm()
        teller.gate.set()  # type: ignore[union-attr]
        with ThreadPoolExecutor(5) as pool:
            futures = in_threads(lm, 5, pool)
            asyncio.run(until_waiting(4))
            go_on.set()
            errors = [future.exception(DEADLINE_S) for future in futures]
            assert sorted(type(error).__name__ for error in errors) == ["LMUnexpectedError"] + ["NoneType"] * 4
        assert len(teller.requests) == 2

    def test_an_outage_does_not_queue(self) -> None:
        """After two failures everybody asks, at the same time, and gets an error of their own."""
        threads = 8
        teller = Teller(*[ValueError(str(number)) for number in range(threads)])
        together = threading.Barrier(threads - 2)

        def inside() -> None:
            number = len(teller.requests)
            if number <= 2:
                asyncio.run(until_waiting(threads - number))
            else:
                together.wait(DEADLINE_S)

        teller.inside = inside
        lm = teller.lm()
        with ThreadPoolExecutor(threads) as pool:
            futures = in_threads(lm, threads, pool)
            causes = {str(getattr(future.exception(DEADLINE_S), "__cause__", None)) for future in futures}
        assert causes == {str(number) for number in range(threads)}

    def test_cancelling_the_one_that_asks(self) -> None:
        """A cancelled task takes nobody with it: another one asks."""
        teller = Teller(gate=threading.Event())
        lm = teller.lm()

        async def main() -> tuple[Any, ...]:
            asking = asyncio.create_task(lm.acall("hi"))
            await asyncio.to_thread(teller.entered.acquire)
            others = [asyncio.create_task(lm.acall("hi")) for _ in range(3)]
            thread = asyncio.ensure_future(asyncio.to_thread(lm, "hi"))
            await until_waiting(4)
            asking.cancel()
            await asyncio.to_thread(teller.entered.acquire)
            teller.gate.set()  # type: ignore[union-attr]
            return await asyncio.gather(asking, *others, thread, return_exceptions=True)

        cancelled, *answers = asyncio.run(main())
        assert isinstance(cancelled, asyncio.CancelledError)
        assert answers == [["told 2"]] * 4

    def test_cancelling_one_that_waits(self) -> None:
        """A task that is cancelled while it waits leaves the call alone."""
        teller = Teller(gate=threading.Event())
        lm = teller.lm()

        async def main() -> tuple[Any, ...]:
            asking, waiter = (asyncio.create_task(lm.acall("hi")) for _ in range(2))
            await until_waiting(1)
            waiter.cancel()
            await asyncio.wait([waiter])
            teller.gate.set()  # type: ignore[union-attr]
            return await asyncio.gather(asking, waiter, return_exceptions=True)

        answer, cancelled = asyncio.run(main())
        assert answer == ["told 1"]
        assert isinstance(cancelled, asyncio.CancelledError)

    @pytest.mark.parametrize("end", ["closed", "dropped"])
    def test_a_stream_that_is_left(self, end: str) -> None:
        """Who waits for a stream that its reader leaves goes on at once."""
        teller = Teller("one two", "three")
        lm = teller.lm()
        stream = lm.stream("hi")
        next(stream)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(lm, "hi")
            asyncio.run(until_waiting(1))
            if end == "closed":
                stream.close()
            del stream
            gc.collect()
            assert call.result(DEADLINE_S) == ["three"]

    def test_a_stream_that_stands_still(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who waits for a stream that nobody reads asks for itself after a while."""
        monkeypatch.setattr(_flights, "LONGEST_PAUSE_S", 0.05)
        teller = Teller("one two", "three")
        lm = teller.lm()
        with ThreadPoolExecutor(1) as pool, lm.stream("hi") as stream:
            next(stream)
            assert pool.submit(lm, "hi").result(DEADLINE_S) == ["three"]
            assert list(stream) == [" two"]


class TestNobodyWaitsForItself:
    def test_from_inside_the_call(self) -> None:
        """A backend that makes the very request it is answering gets an answer."""
        teller = Teller()
        lm = teller.lm()
        answers: list[Any] = []
        teller.inside = lambda: answers.append(lm("hi")) if len(teller.requests) == 1 else None
        assert lm("hi") == ["told 1"]
        assert answers == [["told 2"]]

    def test_from_inside_in_a_task(self) -> None:
        """The same from a task that the call started."""

        class Nested(Teller):
            async def acomplete(self, request: Any, secrets: Any) -> Any:
                response = self._taken(request)
                if len(self.requests) == 1:
                    await asyncio.create_task(lm.acall("hi"))
                return response

        teller = Nested()
        lm = teller.lm()
        assert asyncio.run(asyncio.wait_for(lm.acall("hi"), DEADLINE_S)) == ["told 1"]

    def test_a_blocking_call_in_a_loop(self) -> None:
        """A sync call in the event loop that has to bring the answer does not wait for it."""
        teller = Teller(gate=threading.Event())
        lm = teller.lm()

        async def main() -> tuple[Any, ...]:
            task = asyncio.create_task(lm.acall("hi"))
            await asyncio.to_thread(teller.entered.acquire)
            threading.Timer(0.02, teller.gate.set).start()  # type: ignore[union-attr]
            blocking = lm("hi")
            return await task, blocking

        assert asyncio.run(main()) == (["told 1"], ["told 2"])

    def test_two_streams_of_one_thread(self) -> None:
        """A thread may open a stream while its first, identical one is unread."""
        lm = Teller("one two", "three four").lm()
        with lm.stream("hi") as first, lm.stream("hi") as second:
            assert (next(first), next(second)) == ("one", "three")
            assert (next(first), next(second)) == (" two", " four")

    def test_an_exporter_may_call(self) -> None:
        """What a callback does after the call is answered from the cache."""
        teller = Teller()

        class Again:
            def on_lm_start(self, *_: Any, **__: Any) -> None:
                pass

            def on_lm_end(self, *_: Any, **__: Any) -> None:
                self.seen = teller.lm()("hi")

        again = Again()
        teller.lm(callbacks=[again])("hi")
        assert again.seen == ["told 1"]
        assert len(teller.requests) == 1
