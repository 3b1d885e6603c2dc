"""The in-memory histories: whose they are, how long they get, and that threads lose nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import lmtrace
from lmtrace import _history

DSPY_KEYS = [
    "prompt", "messages", "kwargs", "response", "outputs", "usage", "cost", "timestamp", "uuid", "model",
    "response_model", "model_type",
]  # fmt: skip


class Module:
    """What DSPy's modules have."""

    def __init__(self) -> None:
        self.history: list[Any] = []


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    _history.clear()
    yield
    _history.clear()


def test_entry_has_the_keys_of_dspy(way: Any, script: Any) -> None:
    """An entry reads like the dictionary of `dspy.LM.history`."""
    lm = lmtrace.LM("openai/m", temperature=0.5, backend=script("fine"))
    way.call(lm, "hi")
    entry = lm.history[-1]
    assert list(entry.keys()) == DSPY_KEYS
    assert (entry["prompt"], entry["outputs"], entry["cost"]) == ("hi", ["fine"], 0.001)
    assert (entry["model"], entry["response_model"], entry["model_type"]) == ("openai/m", "m-2026", "chat")
    assert entry["kwargs"] == {"temperature": 0.5, "max_tokens": None}
    assert entry["usage"]["total_tokens"] == 5


def test_each_has_its_own(way: Any, script: Any) -> None:
    """An LM's history has its calls, the global one those of all, in order."""
    first, second = lmtrace.LM("openai/a", backend=script()), lmtrace.LM("openai/b", backend=script())
    for lm in (first, second, first):
        way.call(lm, "hi")
    assert [entry["model"] for entry in first.history] == ["openai/a", "openai/a"]
    assert [entry["model"] for entry in _history.latest(10)] == ["openai/a", "openai/b", "openai/a"]
    assert [entry["model"] for entry in _history.latest(2)] == ["openai/b", "openai/a"]
    assert _history.latest(0) == []


def test_calling_modules_have_theirs(way: Any, script: Any) -> None:
    """Every module around a call gets its entry; one without a history is passed over."""
    outer, inner = Module(), Module()
    lm = lmtrace.LM("openai/m", backend=script())
    with lmtrace.caller_module(outer):
        way.call(lm, "one")
        with lmtrace.caller_module(inner), lmtrace.caller_module(object()):
            way.call(lm, "two")
    way.call(lm, "three")
    assert [entry["prompt"] for entry in outer.history] == ["one", "two"]
    assert [entry["prompt"] for entry in inner.history] == ["two"]


def test_sizes_are_limited(way: Any, script: Any) -> None:
    """An LM and a module keep the newest `max_history_size` entries, also when the limit has become smaller."""
    module = Module()
    lm = lmtrace.LM("openai/m", backend=script())
    with lmtrace.caller_module(module):
        for limit, count in ((4, 6), (2, 1)):
            lmtrace.configure(max_history_size=limit)
            for number in range(count):
                way.call(lm, f"{limit}.{number}")
    assert [entry["prompt"] for entry in lm.history] == ["4.5", "2.0"]
    assert [entry["prompt"] for entry in module.history] == ["4.5", "2.0"]
    assert len(_history.latest(100)) == 7


def test_size_zero_keeps_only_the_global_one(way: Any, script: Any) -> None:
    """With a size of 0 only the global history has entries, as in DSPy."""
    lmtrace.configure(max_history_size=0)
    module, lm = Module(), lmtrace.LM("openai/m", backend=script())
    with lmtrace.caller_module(module):
        way.call(lm, "hi")
    assert (lm.history, module.history, len(_history.latest(10))) == ([], [], 1)


def test_global_size_is_fixed(script: Any) -> None:
    """The global history keeps 10,000 entries."""
    lm = lmtrace.LM("openai/m", backend=script())
    for number in range(10_003):
        lm.update_history({"prompt": number})
    kept = _history.latest(20_000)
    assert (len(kept), kept[0]["prompt"], len(lm.history)) == (10_000, 3, 10_000)


def test_history_can_be_off(way: Any, script: Any) -> None:
    """With `disable_history` nothing is kept anywhere."""
    lmtrace.configure(disable_history=True)
    lm = lmtrace.LM("openai/m", backend=script())
    way.call(lm, "hi")
    assert (lm.history, _history.latest(10)) == ([], [])


def test_entries_may_be_dictionaries(script: Any) -> None:
    """`update_history` takes an entry of DSPy's shape, and a subclass may change what is kept."""

    class Short(lmtrace.LM):
        def update_history(self, entry: Any) -> None:
            super().update_history({"prompt": entry["prompt"]})

    lm = Short("openai/m", backend=script())
    lm("hi")
    assert lm.history == [{"prompt": "hi"}]


def test_threads_lose_nothing(script: Any) -> None:
    """32 threads leave exactly one entry for each call, in the LM, the module and the process."""
    lm, module = lmtrace.LM("openai/m", backend=script()), Module()
    start = threading.Barrier(32)

    def work(thread: int) -> None:
        start.wait()
        with lmtrace.caller_module(module):
            for number in range(25):
                lm(f"{thread}.{number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {f"{thread}.{number}" for thread in range(32) for number in range(25)}
    for history in (lm.history, module.history, _history.latest(10_000)):
        assert len(history) == 800
        assert {entry["prompt"] for entry in history} == expected


def test_threads_keep_to_the_limit(script: Any) -> None:
    """A limited history has exactly its size after many threads have written to it."""
    lmtrace.configure(max_history_size=50)
    lm = lmtrace.LM("openai/m", backend=script())
    threads = [threading.Thread(target=lambda: [lm("hi") for _ in range(25)]) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lm.history) == 50


def test_tasks_lose_nothing(script: Any) -> None:
    """Concurrent tasks leave one entry each, and each module gets those of its own task."""
    lm, modules = lmtrace.LM("openai/m", backend=script()), [Module() for _ in range(50)]

    async def work(number: int) -> None:
        with lmtrace.caller_module(modules[number]):
            await asyncio.sleep(0)
            await lm.acall(str(number))

    async def main() -> None:
        await asyncio.gather(*(work(number) for number in range(50)))

    asyncio.run(main())
    assert len(lm.history) == 50
    assert [[entry["prompt"] for entry in module.history] for module in modules] == [[str(n)] for n in range(50)]
