"""A server as gunicorn makes one with --preload: the master has called before it forks, workers that die are replaced.

Each call that returned is acknowledged on stdout. A line on stdin kills a worker; the end of stdin is the SIGTERM of an
orderly stop, which workers answer in their own handlers.
"""

from __future__ import annotations

import os
import signal
import sys

from instant import instant_lm, uuid_of

lm = instant_lm()


def call(text: str) -> None:
    """One acknowledged call."""
    lm(text)
    os.write(1, f"{uuid_of(lm)}\n".encode())


def work() -> None:
    """A worker, until it is told to stop."""

    def stop(number: int, frame: object) -> None:
        call("from the handler")
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    call("first of a worker")
    os.write(2, b"ready\n")
    while True:
        call("one more")


def fork() -> int:
    """The process id of a new worker."""
    child = os.fork()
    if not child:
        work()
    return child


call("while loading")
workers = [fork() for _ in range(3)]
for _ in sys.stdin:
    os.kill(workers[0], signal.SIGKILL)
    os.waitpid(workers.pop(0), 0)
    call("from the master")
    workers.append(fork())
for worker in workers:
    os.kill(worker, signal.SIGTERM)
statuses = [os.waitpid(worker, 0)[1] for worker in workers]
sys.exit(any(statuses))
