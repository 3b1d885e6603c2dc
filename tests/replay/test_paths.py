"""Logical paths: which task asks, whatever started it, and whatever the schedule was."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import logging
import logging.handlers
import multiprocessing.dummy
import multiprocessing.pool
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread
import pytest
import tqdm.asyncio
from opentelemetry.sdk.trace import TracerProvider

import lmtrace
from lmtrace import _paths
from lmtrace.integrations import tasks

PATCHED = [
    (threading.Thread, "start"),
    (ThreadPoolExecutor, "submit"),
    (concurrent.futures.Future, "add_done_callback"),
    (multiprocessing.pool.ThreadPool, "apply_async"),
    (multiprocessing.pool.ThreadPool, "_map_async"),
    (multiprocessing.pool.ThreadPool, "imap"),
    (multiprocessing.pool.ThreadPool, "imap_unordered"),
    (asyncio.BaseEventLoop, "create_task"),
    (asyncio.tasks, "set"),
]
"""What a session replaces."""


def here() -> str | None:
    return _paths.current()


async def ahere() -> str | None:
    await asyncio.sleep(0)
    return _paths.current()


@pytest.fixture
def session() -> Iterator[_paths.Root]:
    """The test is the root task."""
    root = tasks.start()
    yield root
    tasks.stop(root)


def in_thread(function: Callable[[], Any], cls: type[threading.Thread] = threading.Thread) -> Any:
    found: list[Any] = []
    thread = cls(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.usefixtures("session")
class TestThreads:
    """Threads and pools of threads."""

    def test_root(self) -> None:
        """Who begins a session is its root."""
        assert here() == "0"

    def test_executor(self) -> None:
        """Each piece of work is a child, numbered in the order in which it was handed in."""
        with ThreadPoolExecutor(3) as pool:
            futures = [pool.submit(here) for _ in range(20)]
        assert [future.result() for future in futures] == [f"0.{n}" for n in range(1, 21)]

    def test_workers_take_no_number(self) -> None:
        """Whether a pool had to start a thread makes no difference to what comes after."""
        with ThreadPoolExecutor(1) as small, ThreadPoolExecutor(8) as big:
            assert [small.submit(here).result(), big.submit(here).result(), big.submit(here).result()] == [
                "0.1",
                "0.2",
                "0.3",
            ]
            assert in_thread(here) == "0.4"

    def test_executor_map(self) -> None:
        """`map` hands in one piece of work for each item."""
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(lambda _: here(), range(4))) == ["0.1", "0.2", "0.3", "0.4"]

    def test_thread(self) -> None:
        """A thread is a child of the task that starts it, not of the one that makes it."""
        thread = threading.Thread(target=lambda: found.append(here()))
        found: list[str | None] = []
        with ThreadPoolExecutor(1) as pool:
            pool.submit(thread.start).result()
        thread.join()
        assert found == ["0.1.1"]

    def test_subclass_and_timer(self) -> None:
        """So is a thread with a `run` of its own, and a timer."""
        found = []

        class Asks(threading.Thread):
            def run(self) -> None:
                found.append(here())

        for thread in (Asks(), threading.Timer(0, lambda: found.append(here())), Asks()):
            thread.start()
            thread.join()
            assert "run" not in vars(thread)
        assert found == ["0.1", "0.2", "0.3"]

    def test_own_run_of_an_instance(self) -> None:
        """Another library's `run` on the very thread runs, and stays."""
        found: list[str | None] = []
        thread = threading.Thread()
        thread.run = lambda: found.append(here())  # type: ignore[method-assign]
        theirs = thread.run
        thread.start()
        thread.join()
        assert found == ["0.1"]
        assert thread.run is theirs

    def test_thread_that_cannot_start(self) -> None:
        """A thread started twice fails as ever, and takes no second number."""
        thread = threading.Thread(target=here)
        thread.start()
        with pytest.raises(RuntimeError, match="only be started once"):
            thread.start()
        thread.join()
        assert in_thread(here) == "0.2"

    def test_nested(self) -> None:
        """Labels nest as tasks do."""

        def outer() -> list[Any]:
            with ThreadPoolExecutor(2) as pool:
                return [here(), in_thread(here), *pool.map(lambda _: in_thread(here), range(2)), here()]

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(outer).result() == ["0.1", "0.1.1", "0.1.2.1", "0.1.3.1", "0.1"]

    def test_worker_forgets(self) -> None:
        """Nothing of a piece of work is left in its worker, even if it failed; its error is not kept alive."""
        with ThreadPoolExecutor(1) as pool:
            failed = pool.submit(functools.partial(int, "x"))
            with pytest.raises(ValueError, match="invalid literal"):
                failed.result()
            assert pool.submit(here).result() == "0.2"
            worker = next(iter(pool._threads))
            assert worker not in _paths._branches

    def test_done_callback(self) -> None:
        """A callback is a task of its own, numbered when it was given, in whichever thread it runs."""
        found = []
        gate = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(gate.wait, 60)
            future.add_done_callback(lambda _: found.append(here()))
            gate.set()
            future.result()
        future.add_done_callback(lambda _: found.append(here()))
        assert found == ["0.2", "0.3"]
        assert here() == "0"

    def test_thread_pool(self) -> None:
        """`multiprocessing.dummy` and `ThreadPool`: each item is a task; the pool's own threads are none."""
        with multiprocessing.dummy.Pool(3) as pool:
            assert pool.apply(here) == "0.1"
            assert pool.map(lambda _: here(), range(3), chunksize=2) == ["0.2", "0.3", "0.4"]
            assert pool.starmap(lambda a, b: (a + b, here()), [(1, 2), (3, 4)]) == [(3, "0.5"), (7, "0.6")]
            assert list(pool.imap(lambda _: here(), range(3), chunksize=2)) == ["0.7.1", "0.7.2", "0.7.3"]
            assert sorted(pool.imap_unordered(lambda _: here(), range(2))) == ["0.8.1", "0.8.2"]  # type: ignore[type-var]
        assert in_thread(here, multiprocessing.dummy.Process) == "0.9"

    def test_background_of_libraries(self) -> None:
        """A thread that a library keeps for itself takes no number, whoever happens to cause it."""
        listener = logging.handlers.QueueListener(multiprocessing.dummy.Queue())
        listener.start()
        listener.stop()
        assert in_thread(here) == "0.1"


class TestAsyncio:
    """Tasks of an event loop."""

    @pytest.fixture(autouse=True)
    def _session(self, session: _paths.Root) -> None: ...

    def test_every_way_to_start(self) -> None:
        """Whatever makes a task takes the next number of the task that does it."""

        async def main() -> list[Any]:
            loop = asyncio.get_running_loop()
            found = [here(), await asyncio.create_task(ahere()), await asyncio.ensure_future(ahere())]
            async with asyncio.TaskGroup() as group:
                made = [group.create_task(ahere()), group.create_task(ahere())]
            found += [task.result() for task in made]
            found += await asyncio.gather(ahere(), ahere())
            found += [await asyncio.to_thread(here), await loop.run_in_executor(None, here)]
            found += [await asyncio.shield(ahere()), await loop.create_task(ahere(), name="x"), here()]
            return found

        expected = ["0.1", *(f"0.1.{n}" for n in range(1, 11)), "0.1"]
        assert asyncio.run(main()) == expected

    def test_second_run(self) -> None:
        """A second event loop is the second task of its thread."""
        assert [asyncio.run(ahere()), asyncio.run(ahere())] == ["0.1", "0.2"]

    def test_given_context(self) -> None:
        """A task that is given a context, even one that others share, has its own label."""

        async def main() -> list[Any]:
            shared = contextvars.copy_context()
            made = [asyncio.create_task(ahere(), context=shared) for _ in range(3)]
            return [await task for task in made]

        assert asyncio.run(main()) == ["0.1.1", "0.1.2", "0.1.3"]

    @pytest.mark.parametrize("is_given", [True, False])
    def test_eager(self, *, is_given: bool) -> None:
        """An eager task has its label from its first step, and so have those it starts in that."""
        if sys.version_info < (3, 12):
            pytest.skip("eager tasks came with Python 3.12")

        async def nested() -> list[Any]:
            return [here(), await asyncio.create_task(ahere()), here()]

        async def main() -> list[Any]:
            loop = asyncio.get_running_loop()
            loop.set_task_factory(asyncio.eager_task_factory)
            options: dict[str, Any] = {"context": contextvars.Context()} if is_given else {}
            return [await loop.create_task(nested(), **options), await loop.create_task(nested(), **options), here()]

        assert asyncio.run(main()) == [["0.1.1", "0.1.1.1", "0.1.1"], ["0.1.2", "0.1.2.1", "0.1.2"], "0.1"]

    def test_task_factory(self) -> None:
        """The application's task factory makes its tasks, and they have labels."""
        made = []

        def factory(loop: Any, coro: Any, **options: Any) -> Any:
            made.append(asyncio.Task(coro, loop=loop, **options))
            return made[-1]

        async def main() -> list[Any]:
            loop = asyncio.get_running_loop()
            loop.set_task_factory(factory)
            found = [await asyncio.create_task(ahere()), await asyncio.create_task(ahere())]
            assert loop.get_task_factory() is factory
            return found

        assert asyncio.run(main()) == ["0.1.1", "0.1.2"]
        assert len(made) >= 2

    def test_as_completed(self) -> None:
        """`as_completed` numbers its tasks in the order in which they were given, not in that of a set."""

        async def nth(n: int) -> tuple[int, str | None]:
            await asyncio.sleep(0)
            return n, here()

        async def main() -> list[Any]:
            return [await each for each in asyncio.as_completed([nth(n) for n in range(1, 40)])]

        assert sorted(asyncio.run(main())) == [(n, f"0.1.{n}") for n in range(1, 40)]

    def test_wait_for(self) -> None:
        """`wait_for` is no task, although Python 3.11 makes one."""

        async def main() -> list[Any]:
            return [await asyncio.wait_for(ahere(), 10), await asyncio.create_task(ahere()), here()]

        assert asyncio.run(main()) == ["0.1", "0.1.1", "0.1"]

    def test_callbacks(self) -> None:
        """A callback of the loop counts beside the task that gave it, so that the task's own numbers stay."""

        async def main() -> list[Any]:
            loop = asyncio.get_running_loop()
            done: asyncio.Future[Any] = loop.create_future()

            def callback() -> None:
                done.set_result((here(), asyncio.ensure_future(ahere())))

            loop.call_soon(callback)
            mine = asyncio.create_task(ahere())
            label, theirs = await done
            return [label, await theirs, await mine]

        assert asyncio.run(main()) == ["0.1+", "0.1+.1", "0.1.1"]

    def test_from_another_thread(self) -> None:
        """`run_coroutine_threadsafe` counts beside the task that calls it, not beside those of the loop."""

        async def main() -> Any:
            loop = asyncio.get_running_loop()

            def work() -> Any:
                return asyncio.run_coroutine_threadsafe(ahere(), loop).result(60)

            found: list[Any] = []
            thread = threading.Thread(target=lambda: found.append(work()))
            thread.start()
            found.append(await asyncio.to_thread(work))
            await asyncio.to_thread(thread.join)
            return sorted(found)

        assert asyncio.run(main()) == ["0.1.1+.1", "0.1.2+.1"]

    def test_async_generator(self) -> None:
        """An async generator runs as the task that takes its next item."""

        async def labels() -> Any:
            while True:
                await asyncio.sleep(0)
                yield here()

        async def main() -> list[Any]:
            generator = labels()
            return [await anext(generator), await asyncio.create_task(anext(generator)), await anext(generator)]

        assert asyncio.run(main()) == ["0.1", "0.1.1", "0.1"]

    def test_anyio(self) -> None:
        """A task group of anyio starts tasks; its worker threads, which serve anybody, count beside the task."""

        async def main() -> list[Any]:
            found: list[Any] = []

            async def asks() -> None:
                found.append((here(), await anyio.to_thread.run_sync(here), await anyio.to_thread.run_sync(here)))

            async with anyio.create_task_group() as group:
                group.start_soon(asks)
                group.start_soon(asks)
            return [*sorted(found), await asyncio.create_task(ahere())]

        assert asyncio.run(main()) == [("0.1.1", "0.1.1+", "0.1.1+"), ("0.1.2", "0.1.2+", "0.1.2+"), "0.1.3"]


class TestSessions:
    """Where labels begin and end."""

    def test_none_without_a_session(self) -> None:
        """No session, no labels, and nothing of the standard library is touched."""
        before = [vars(owner).get(name) for owner, name in PATCHED]
        assert here() is None
        assert in_thread(here) is None
        assert not any(hasattr(function, "__lmtrace_under__") for function in before)

    def test_put_back(self) -> None:
        """After the last session everything is what it was, whatever order they end in."""
        before = [vars(owner).get(name) for owner, name in PATCHED]
        first, second = tasks.start(), tasks.start()
        assert all(vars(owner).get(name) is not old for (owner, name), old in zip(PATCHED, before, strict=True))
        tasks.stop(first)
        assert vars(threading.Thread)["start"] is not before[0]
        tasks.stop(second)
        tasks.stop(second)
        assert all(vars(owner).get(name) is old for (owner, name), old in zip(PATCHED, before, strict=True))
        assert here() is None

    def test_somebody_patches_on_top(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another patch on ours stays and works; ours beneath it does nothing from then on; nobody is counted twice."""
        before = vars(ThreadPoolExecutor)["submit"]
        monkeypatch.setattr(ThreadPoolExecutor, "submit", before)
        root = tasks.start()
        ours = vars(ThreadPoolExecutor)["submit"]

        def theirs(self: Any, *args: Any) -> Any:
            return ours(self, *args)

        ThreadPoolExecutor.submit = theirs  # type: ignore[method-assign, assignment]
        tasks.stop(root)
        assert vars(ThreadPoolExecutor)["submit"] is theirs
        for _ in range(2):
            root = tasks.start()
            with ThreadPoolExecutor(1) as pool:
                assert [pool.submit(here).result(), pool.submit(here).result()] == ["0.1", "0.2"]
            tasks.stop(root)
            assert vars(ThreadPoolExecutor)["submit"] is theirs
        ThreadPoolExecutor.submit = ours  # type: ignore[method-assign]
        root = tasks.start()
        with ThreadPoolExecutor(1) as pool:
            assert [pool.submit(here).result(), pool.submit(here).result()] == ["0.1", "0.2"]
        tasks.stop(root)
        assert vars(ThreadPoolExecutor)["submit"] is before

    def test_inner_session(self) -> None:
        """A session inside another has its own root where it began; the outer labels come back after it."""
        outer = tasks.start()

        def work() -> list[Any]:
            inner = tasks.start()
            found = [here(), in_thread(here)]
            tasks.stop(inner)
            return [*found, here(), in_thread(here)]

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(work).result() == ["0", "0.1", "0.1", "0.1.1"]
        assert here() == "0"
        tasks.stop(outer)

    def test_sessions_side_by_side(self) -> None:
        """Sessions of several threads come and go without disturbing each other's labels, and leave nothing."""
        before = [vars(owner).get(name) for owner, name in PATCHED]
        ready = threading.Barrier(6)
        wrong: list[Any] = []

        def work() -> None:
            ready.wait(60)
            for _ in range(30):
                root = tasks.start()
                with ThreadPoolExecutor(2) as pool:
                    found = [here(), *pool.map(lambda _: here(), range(3)), asyncio.run(ahere())]
                tasks.stop(root)
                if [*found, here()] != ["0", "0.1", "0.2", "0.3", "0.4", None]:
                    wrong.append(found)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert all(vars(owner).get(name) is old for (owner, name), old in zip(PATCHED, before, strict=True))

    def test_begun_in_a_task(self) -> None:
        """A session begun in an asyncio task has that task as its root, and none beside it."""

        async def beside(begun: asyncio.Event) -> str | None:
            await begun.wait()
            return here()

        async def main() -> list[Any]:
            begun = asyncio.Event()
            stranger = asyncio.create_task(beside(begun))
            await asyncio.sleep(0)
            root = tasks.start()
            begun.set()
            found = [await stranger, here(), await asyncio.create_task(ahere())]
            tasks.stop(root)
            return [*found, here()]

        assert asyncio.run(main()) == [None, "0", "0.1", None]

    def test_loop_from_before(self) -> None:
        """A task that waits in a loop from before counts beside the session's root, whose thread runs that loop again."""
        with asyncio.Runner() as runner:
            go = asyncio.Event()

            async def waits() -> list[Any]:
                await go.wait()
                return [here(), await asyncio.create_task(ahere())]

            async def begin() -> asyncio.Task[list[Any]]:
                return asyncio.create_task(waits())

            async def end() -> list[Any]:
                go.set()
                return [*await older, here()]

            older = runner.run(begin())
            root = tasks.start()
            assert runner.run(end()) == ["0+", "0+.1", "0.1"]
            tasks.stop(root)

    def test_tasks_of_an_earlier_session(self) -> None:
        """A task that outlives its session has no label in the next one."""

        async def main() -> list[Any]:
            ready = asyncio.Event()

            async def lives_on() -> list[Any]:
                await ready.wait()
                return [here(), await asyncio.create_task(ahere())]

            first = tasks.start()
            survivor = asyncio.create_task(lives_on())
            await asyncio.sleep(0)
            tasks.stop(first)
            second = tasks.start()
            ready.set()
            found = await survivor
            tasks.stop(second)
            return found

        assert asyncio.run(main()) == [None, None]

    def test_threads_from_before(self, caplog: pytest.LogCaptureFixture) -> None:
        """A thread started before has no label, which is said once a session; what pools are given has one."""
        asked, answer = multiprocessing.dummy.Queue(), multiprocessing.dummy.Queue()

        def serve() -> None:
            while asked.get():
                answer.put((here(), in_thread(here)))

        thread = threading.Thread(target=serve)
        thread.start()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(here).result()
            root = tasks.start()
            with caplog.at_level(logging.WARNING, logger="lmtrace"):
                for _ in range(2):
                    asked.put(True)
                    assert answer.get() == (None, None)
            assert pool.submit(here).result() == "0.1"
            tasks.stop(root)
        asked.put(False)
        thread.join()
        assert [record.message.split(",")[0] for record in caplog.records] == [
            f"lmtrace: a call came from thread {thread.name!r}"
        ]

    def test_ended_elsewhere(self) -> None:
        """A session may be ended by another thread, or in another context, than the one it was begun in."""
        root = contextvars.copy_context().run(tasks.start)
        assert here() == "0"
        thread = threading.Thread(target=tasks.stop, args=(root,))
        thread.start()
        thread.join()
        assert here() is None
        assert _paths._around.get() is None

    def test_nothing_is_kept(self) -> None:
        """A session that is over leaves no label behind, not of tasks that failed either."""

        async def fails() -> None:
            raise ValueError("x")

        async def main() -> None:
            await asyncio.gather(ahere(), fails(), asyncio.to_thread(here), return_exceptions=True)

        root = weakref.ref(tasks.start())
        in_thread(here)
        asyncio.run(main())
        tasks.stop(root())  # type: ignore[arg-type]
        gc.collect()
        assert root() is None

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_fork(self, session: _paths.Root) -> None:
        """A forked child can go on, and end the session; what OpenTelemetry does there to begin anew takes no number."""
        provider = TracerProvider(shutdown_on_exit=False)
        held = threading.Event()
        release = threading.Event()

        def hold() -> None:
            with _paths._lock:
                held.set()
                release.wait(60)

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait(60)
        pid = os.fork()
        if not pid:
            with ThreadPoolExecutor(1) as pool:
                is_right = pool.submit(here).result() == "0.2"
            tasks.stop(session)
            os._exit(0 if is_right and here() is None else 1)
        release.set()
        holder.join()
        assert os.waitpid(pid, 0)[1] == 0
        provider.shutdown()


class Busy:
    """A backend whose library starts threads and tasks of its own, if it is there."""

    def __init__(self, *, is_there: bool) -> None:
        self.is_there = is_there
        self.inside: list[str | None] = []

    def complete(self, request: lmtrace.LMRequest, secrets: Any) -> lmtrace.LMResponse:
        if self.is_there:
            with ThreadPoolExecutor(1) as pool:
                self.inside += [pool.submit(here).result(), in_thread(here)]
        return lmtrace.LMResponse(outputs=[lmtrace.LMOutput(parts=[lmtrace.LMTextPart("x")], finish_reason="stop")])

    async def acomplete(self, request: lmtrace.LMRequest, secrets: Any) -> lmtrace.LMResponse:
        if self.is_there:
            self.inside += [await asyncio.create_task(ahere()), await asyncio.to_thread(here)]
        return self.complete(request, secrets)

    stream: Any = None
    astream: Any = None


@pytest.mark.usefixtures("session")
class TestCalls:
    """The label of an LM call."""

    @pytest.mark.parametrize("is_there", [True, False])
    def test_what_a_call_starts(self, *, is_there: bool) -> None:
        """What a provider's library starts takes no number: on replay it is not there. It has the label of the call."""
        backend = Busy(is_there=is_there)
        lm = lmtrace.LM("test/one", cache=False, backend=backend)

        async def main() -> Any:
            await lm.acall("x")
            return lm.history[-1].path, await asyncio.create_task(ahere())

        lm("x")
        assert (lm.history[-1].path, in_thread(here)) == ("0", "0.1")
        assert asyncio.run(main()) == ("0.2", "0.2.1")
        assert set(backend.inside) == ({"0", "0.2"} if is_there else set())

    def test_calls_that_are_tasks(self) -> None:
        """A call that is itself handed to a pool, a thread or the event loop is a task."""
        lm = lmtrace.LM("test/one", cache=False, backend=Busy(is_there=False))

        async def main() -> None:
            await asyncio.gather(lm.acall("x"), lm.acall("x"))

        with ThreadPoolExecutor(1) as pool:
            pool.submit(lm, "x").result()
            pool.submit(functools.partial(lm.forward, "x")).result()
        for target in (lm, lm.forward):
            thread = threading.Thread(target=target, args=("x",))
            thread.start()
            thread.join()
        asyncio.run(main())
        assert [entry.path for entry in lm.history] == ["0.1", "0.2", "0.3", "0.4", "0.5.1", "0.5.2"]

    def test_wrapped_by_libraries(self) -> None:
        """What a progress bar or an instrumentation wraps is still the program's task."""

        async def main() -> list[Any]:
            return await tqdm.asyncio.tqdm.gather(ahere(), ahere(), disable=True)

        assert asyncio.run(main()) == ["0.1.1", "0.1.2"]
