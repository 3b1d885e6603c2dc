"""Logical paths under trio: nurseries, anyio, threads, and replays of equal requests that are under way together."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import anyio.to_thread
import pytest
import trio
import trio.testing

import lmtrace
from lmtrace import _paths
from lmtrace._data import LMOutput, LMRequest, LMResponse, LMTextPart
from lmtrace.integrations import tasks


def here() -> str | None:
    return _paths.current()


@pytest.fixture
def session() -> Iterator[_paths.Root]:
    """The test is the root task."""
    root = tasks.start()
    yield root
    tasks.stop(root)


@pytest.mark.usefixtures("session")
class TestLabels:
    """Each task has its own."""

    def test_nursery(self) -> None:
        """A task is a child of the one that starts it, in the order in which it does, whoever holds the nursery."""
        found: dict[str, Any] = {}

        async def note(name: str, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
            found[name] = here()
            task_status.started()
            await trio.lowlevel.checkpoint()
            assert here() == found[name]

        async def passes_on(nursery: trio.Nursery) -> None:
            found["outer"] = here()
            nursery.start_soon(note, "of another")

        async def main() -> Any:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(note, "first")
                nursery.start_soon(passes_on, nursery)
                await nursery.start(note, "started")
            return here()

        assert trio.run(main) == "0.1"
        assert found == {"first": "0.1.1", "outer": "0.1.2", "of another": "0.1.2.1", "started": "0.1.3"}
        assert trio.run(main) == "0.2", "runs are tasks of the one that starts them"
        assert here() == "0"

    def test_own_and_libraries(self) -> None:
        """What trio starts for itself takes no number; its worker threads and system tasks count beside tasks."""

        async def ahere() -> str | None:
            return here()

        async def main() -> list[Any]:
            await trio.run_process([sys.executable, "-c", ""], capture_stdout=True)
            system: list[Any] = []
            trio.lowlevel.spawn_system_task(lambda: note(system))
            await trio.testing.wait_all_tasks_blocked()
            async with trio.open_nursery() as nursery:
                child: list[Any] = []
                nursery.start_soon(note, child)
            return [
                *child,
                await trio.to_thread.run_sync(here),
                await trio.to_thread.run_sync(lambda: trio.from_thread.run(ahere)),
                *system,
            ]

        async def note(found: list[Any]) -> None:
            found.append(here())

        assert trio.run(main) == ["0.1.1", "0.1+", "0.1", "0+"]

    def test_guest(self) -> None:
        """Tasks of a guest of asyncio's are not taken for the host's."""

        async def child(found: list[Any]) -> None:
            found.append(here())

        async def guest() -> list[Any]:
            found = [here()]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child, found)
                nursery.start_soon(child, found)
            return sorted(found, key=str)

        async def main() -> Any:
            loop, done = asyncio.get_running_loop(), asyncio.Event()
            ended: list[Any] = []
            trio.lowlevel.start_guest_run(
                guest,
                run_sync_soon_threadsafe=loop.call_soon_threadsafe,
                done_callback=lambda outcome: (ended.append(outcome.unwrap()), done.set()),
            )
            await done.wait()
            return ended[0], here()

        assert asyncio.run(main()) == (["0.1.1", "0.1.1.1", "0.1.1.2"], "0.1")

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_anyio(self, backend: str) -> None:
        """Task groups of anyio give the same labels on both."""

        async def main() -> list[Any]:
            found: list[Any] = []

            async def asks() -> None:
                found.append((here(), await anyio.to_thread.run_sync(here), await anyio.to_thread.run_sync(here)))

            async with anyio.create_task_group() as group:
                group.start_soon(asks)
                group.start_soon(asks)
            return sorted(found)

        assert anyio.run(main, backend=backend) == [("0.1.1", "0.1.1+", "0.1.1+"), ("0.1.2", "0.1.2+", "0.1.2+")]


def test_begun_in_a_task() -> None:
    """A session begun in a task of trio has that one as its root, and ends there."""

    async def child(found: list[Any]) -> None:
        found.append(here())

    async def main() -> list[Any]:
        found: list[Any] = [here()]
        root = tasks.start()
        found.append(here())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, found)
        tasks.stop(root)
        return [*found, here()]

    assert trio.run(main) == [None, "0", "0.1", None]


def test_put_back() -> None:
    """After the session trio is what it was."""
    from trio._core._run import Runner

    before = vars(Runner)["spawn_impl"]
    root = tasks.start()
    assert vars(Runner)["spawn_impl"] is not before
    tasks.stop(root)
    assert vars(Runner)["spawn_impl"] is before


def test_amid_its_import(session: _paths.Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a thread imports trio, as clients for HTTP do in their first request, others have their labels."""
    monkeypatch.setitem(sys.modules, "trio", ModuleType("trio"))
    assert here() == "0"


LATE = """
import sys
from lmtrace import _paths
from lmtrace.integrations import tasks

async def main():
    return _paths.current()

root = tasks.start()
assert "trio" not in sys.modules
import trio
print(trio.run(main), trio.run(main))
tasks.stop(root)
from trio._core._run import Runner
print(hasattr(Runner.spawn_impl, "__lmtrace_under__"))
"""


def test_imported_later() -> None:
    """A program may import trio during the session, as anyio does; before that, nothing is imported for it."""
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0.1", "0.2", "False"], done.stderr


class Numbered:
    """Gives every request another answer, after others had their turn."""

    def __init__(self) -> None:
        self.numbers = deque(range(1000))

    async def acomplete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        await trio.lowlevel.checkpoint()
        return LMResponse(outputs=(LMOutput(parts=(LMTextPart(f"name {self.numbers.popleft()}"),)),))


@pytest.mark.parametrize("library", ["trio", "anyio"])
def test_equal_requests_replay(tmp_path: Path, library: str) -> None:
    """Each task is given its own answers again, whichever is first: trio runs its tasks in a random order."""

    async def program(lm: lmtrace.LM) -> dict[str, Any]:
        found: dict[str, Any] = {}

        async def name_two(number: int) -> None:
            found[str(number)] = [await lm.acall("Invent a name."), await lm.acall("Invent a name.")]
            async with open_group() as group:
                group.start_soon(name_one, f"{number}.a")
                group.start_soon(name_one, f"{number}.b")

        async def name_one(number: str) -> None:
            found[number] = await lm.acall("Invent a name.")

        async with open_group() as group:
            for number in range(30):
                group.start_soon(name_two, number)
        return found

    open_group: Any = trio.open_nursery if library == "trio" else anyio.create_task_group
    cassette = tmp_path / "names.cassette"
    lm = lmtrace.LM("local/names", backend=Numbered(), cache=False)  # type: ignore[arg-type]
    with lmtrace.replay(cassette, mode="rewrite"):
        recorded = trio.run(program, lm)
    assert len({str(answer) for answers in recorded.values() for answer in answers}) == 120
    for _ in range(3):
        with lmtrace.replay(cassette):
            assert trio.run(program, lmtrace.LM("local/names", backend=Numbered(), cache=False)) == recorded  # type: ignore[arg-type]
