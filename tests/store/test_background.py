"""The thread behind a store: when it works, and when it only looks again."""

from __future__ import annotations

import threading

from lmtrace_exporters._background import Background


def test_waking_is_no_reason_to_work() -> None:
    """A wake makes the thread ask again how long to sleep; it works when that time is over, not at every row."""
    pauses = iter([60.0, 0.0, None])
    asked, worked = threading.Semaphore(0), threading.Event()
    done: list[None] = []

    def pause() -> float | None:
        background.rest()
        asked.release()
        return next(pauses)

    def tick() -> None:
        done.append(None)
        worked.set()

    background = Background(pause, tick)
    background.ensure()
    assert asked.acquire(timeout=60)
    assert not done
    background.wake()
    assert asked.acquire(timeout=60)
    assert worked.wait(60)
    assert asked.acquire(timeout=60)
    assert len(done) == 1
