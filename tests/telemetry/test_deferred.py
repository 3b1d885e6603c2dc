"""Work done later: all of it, once, and never by the caller alone."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence

import pytest

from lmtrace._deferred import PORTION, Deferred


def test_nothing_happens_before_a_drain():
    """Items wait until somebody drains, and are handled in order, in one batch."""
    batches: list[list[int]] = []
    queue = Deferred[int](lambda items: batches.append(list(items)))
    for number in range(5):
        queue.put(number)
    assert (len(queue), batches) == (5, [])
    queue.drain(2)
    queue.drain()
    queue.drain()
    assert (len(queue), batches) == (0, [[0, 1], [2, 3, 4]])


def test_a_drain_keeps_its_deadline():
    """Once the time is up nothing more is begun, and that is said; what came in meanwhile is not waited for."""
    now = [0.0]
    handled: list[int] = []

    def handle(items: Sequence[int]) -> None:
        now[0] += 1
        handled.extend(items)
        queue.put(-1)

    queue = Deferred[int](handle, wake=10_000, limit=100_000)
    for number in range(2_000):
        queue.put(number)
    assert queue.drain_until(3, lambda: now[0]) is False
    assert 0 < len(handled) < 2_000
    assert now[0] == 3
    assert queue.drain_until(100, lambda: now[0]) is True
    assert [number for number in handled if number >= 0] == list(range(2_000))


def test_a_long_queue_is_worked_off_in_portions():
    """Past the waking length a thread empties the queue, a portion at a time, while callers go on."""
    sizes: list[int] = []
    done = threading.Event()

    def handle(items: Sequence[int]) -> None:
        assert threading.current_thread() is not threading.main_thread()
        sizes.append(len(items))
        if sum(sizes) == 100:
            done.set()

    queue = Deferred[int](handle, wake=99)
    for number in range(100):
        queue.put(number)
    assert done.wait(60)
    assert max(sizes) == PORTION


def test_callers_help_when_the_thread_does_not_keep_up():
    """The queue never grows past its limit, however slow the work is, and nothing is lost."""
    handled: list[int] = []
    slow = threading.Event()

    def handle(items: Sequence[int]) -> None:
        if threading.current_thread() is not threading.main_thread():
            slow.wait(60)
        handled.extend(items)

    queue = Deferred[int](handle, wake=10, limit=50)
    lengths = []
    for number in range(500):
        queue.put(number)
        lengths.append(len(queue))
    assert max(lengths) <= 50
    queue.drain()
    slow.set()
    deadline = threading.Event()
    while len(handled) < 500 and not deadline.wait(0.001):
        pass
    assert sorted(handled) == list(range(500))


def test_work_that_fails_is_logged(caplog: pytest.LogCaptureFixture):
    """A failure costs its batch and a log line, and no caller sees it."""

    def handle(items: Sequence[int]) -> None:
        raise OSError("no")

    queue = Deferred[int](handle)
    queue.put(1)
    with caplog.at_level(logging.WARNING):
        queue.drain()
    assert "lost 1 items" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_begins_anew():
    """A child has none of its parent's items, and a thread of its own when it needs one."""
    done = threading.Event()
    queue = Deferred[int](lambda items: done.set() if 7 in items else None, wake=3)
    for number in range(3):
        queue.put(number)
    child = os.fork()
    if child == 0:
        empty = len(queue) == 0
        for _ in range(4):
            queue.put(7)
        os._exit(0 if empty and done.wait(60) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(queue) == 3
