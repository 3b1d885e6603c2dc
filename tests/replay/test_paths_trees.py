"""Any tree of tasks gets the same labels whatever the schedule: one for each task, and no two the same."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from typing import Any, Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmtrace import _paths
from lmtrace.integrations import tasks

Way = Literal["submit", "map", "thread", "pool", "callback", "loop", "task", "gather", "group", "to_thread"]
SYNC: Sequence[Way] = ("submit", "map", "thread", "pool", "callback", "loop")
ASYNC: Sequence[Way] = ("task", "gather", "group", "to_thread")


@dataclass(frozen=True)
class Node:
    """A task, and the tasks it starts, in order: each group in one of the ways in which that can be done."""

    number: int
    groups: tuple[tuple[Way, tuple[Node, ...]], ...] = ()


@st.composite
def trees(draw: st.DrawFn) -> Node:
    """A tree of up to thirty tasks whose ways fit what they run in."""
    left = draw(st.integers(1, 30))
    number = 0

    def node(depth: int, *, is_async: bool) -> Node:
        nonlocal left, number
        number += 1
        mine, groups = number, []
        while left > 0 and depth < 4 and draw(st.booleans()):
            way = draw(st.sampled_from(ASYNC if is_async else SYNC))
            size = min(left, draw(st.integers(1, 4)))
            left -= size
            inside = way in ("loop", "task", "gather", "group")
            groups.append((way, tuple(node(depth + 1, is_async=inside) for _ in range(size))))
        return Node(mine, tuple(groups))

    return node(0, is_async=draw(st.booleans()))


@dataclass
class Program:
    """Runs a tree, each task dawdling as it pleases, and keeps the labels its tasks had, at each of their steps."""

    dice: random.Random
    labels: dict[int, set[str | None]] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)

    def delay(self) -> float:
        with self.lock:
            return self.dice.choice((0.0, 0.0, 0.0, 0.0003))

    def note(self, node: Node) -> None:
        with self.lock:
            self.labels.setdefault(node.number, set()).add(_paths.current())

    def run(self, node: Node, _: Any = None) -> None:
        self.note(node)
        with ThreadPoolExecutor(3) as pool, ThreadPool(2) as other:
            started: list[Any] = []
            for way, nodes in node.groups:
                time.sleep(self.delay())
                started += self.start(way, nodes, pool, other)
                self.note(node)
            for each in started:
                each()
        self.note(node)

    def start(self, way: Way, nodes: Sequence[Node], pool: ThreadPoolExecutor, other: ThreadPool) -> list[Any]:
        """Starts children; returns what waits for them."""
        if way == "submit":
            return [pool.submit(self.run, node).result for node in nodes]
        if way == "map":
            list(pool.map(self.run, nodes))
        elif way == "pool":
            other.map(self.run, nodes)
        elif way == "loop":
            for node in nodes:
                asyncio.run(self.arun(node))
        elif way == "thread":
            threads = [threading.Thread(target=self.run, args=(node,)) for node in nodes]
            for thread in threads:
                thread.start()
            return [thread.join for thread in threads]
        elif way == "callback":
            for node in nodes:
                future: Future[None] = pool.submit(time.sleep, self.delay())
                done: Future[None] = Future()
                future.add_done_callback(lambda _, node=node, done=done: done.set_result(self.run(node)))  # type: ignore[misc]
                done.result()
        return []

    async def arun(self, node: Node) -> None:
        self.note(node)
        started: list[Any] = []
        for way, nodes in node.groups:
            await asyncio.sleep(self.delay())
            if way == "task":
                started += [asyncio.create_task(self.arun(child)) for child in nodes]
            elif way == "to_thread":
                started += [asyncio.create_task(asyncio.to_thread(self.run, child)) for child in nodes]
            elif way == "gather":
                await asyncio.gather(*map(self.arun, nodes))
            else:
                async with asyncio.TaskGroup() as group:
                    for child in nodes:
                        group.create_task(self.arun(child))
            self.note(node)
        for each in started:
            await each
        self.note(node)


def labels(tree: Node, seed: int) -> dict[int, set[str | None]]:
    """The labels of each task in one run."""
    program = Program(random.Random(seed))
    is_async = any(way in ASYNC for way, _ in tree.groups)
    root = tasks.start()
    try:
        asyncio.run(program.arun(tree)) if is_async else program.run(tree)
    finally:
        tasks.stop(root)
    return program.labels


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trees(), st.integers(0, 2**16))
def test_same_tree_same_labels(tree: Node, seed: int) -> None:
    """Two runs under different delays give each task the same label, which it keeps, and no two tasks the same."""
    first, second = labels(tree, seed), labels(tree, seed + 1)
    assert first == second
    assert all(len(each) == 1 and None not in each for each in first.values())
    assert len({label for each in first.values() for label in each}) == len(first)
