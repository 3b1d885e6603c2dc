"""Ids of calls and runs: unique everywhere, in order within a process."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from lmtrace._ids import Uuid7


def test_the_form() -> None:
    """An id is a uuid of version 7 whose first 48 bits are the time in milliseconds."""
    before = time.time_ns() // 1_000_000
    new = uuid.UUID(Uuid7()())
    assert (new.version, new.variant) == (7, uuid.RFC_4122)
    assert before <= new.int >> 80 <= time.time_ns() // 1_000_000


@given(st.lists(st.integers(-5, 3), min_size=1, max_size=20))
def test_in_order(steps: list[int]) -> None:
    """Ids sort in the order they were made, even when the clock stands still or goes back."""
    now = [10**18]

    def clock() -> int:
        now[0] += (steps.pop() if steps else 0) * 1_000_000
        return now[0]

    new_id = Uuid7(clock)
    made = [new_id() for _ in range(40)]
    assert made == sorted(set(made))


def test_many_in_a_millisecond() -> None:
    """When the counter of a millisecond is used up, ids run ahead of the clock."""
    new_id = Uuid7(lambda: 10**18)
    made = [new_id() for _ in range(10_000)]
    assert made == sorted(set(made))


def test_threads() -> None:
    """Threads never get the same id."""
    new_id, barrier = Uuid7(), threading.Barrier(8)

    def work(_: int) -> list[str]:
        barrier.wait(60)
        return [new_id() for _ in range(500)]

    with ThreadPoolExecutor(8) as pool:
        made = [one for part in pool.map(work, range(8)) for one in part]
    assert len(set(made)) == 4_000
