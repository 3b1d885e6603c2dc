"""Make calls and end in the way the first argument names; each call that returned is acknowledged on stdout."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from concurrent.futures import ProcessPoolExecutor

from instant import instant_lm, uuid_of

lm = instant_lm()


def call(text: str = "hello") -> None:
    """One acknowledged call."""
    lm(text)
    os.write(1, f"{uuid_of(lm)}\n".encode())


def call_in_child(number: int) -> None:
    """What a worker of a pool does."""
    call(f"from child {number}")


def returns() -> None:
    """The program ends by itself."""


def exits() -> None:
    sys.exit(3)


def raises() -> None:
    raise ZeroDivisionError


def os_exits() -> None:
    os._exit(4)


def terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait()


def terminated_in_python() -> None:
    def handle(number: int, frame: object) -> None:
        call("from the handler")
        sys.exit(5)

    signal.signal(signal.SIGTERM, handle)
    terminated()


def aborts() -> None:
    os.abort()


def fails_in_thread() -> None:
    def fail() -> None:
        call("from a thread")
        raise ZeroDivisionError

    threading.excepthook = lambda _: None
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()


def at_exit() -> None:
    """Calls are made when the interpreter is on its way out, before and after lmtrace has closed its store."""
    atexit.register(call, "before lmtrace")


def daemon() -> None:
    """A daemon thread makes calls until the interpreter stops it."""
    begun = threading.Event()

    def calls_on() -> None:
        while True:
            call("from a daemon")
            begun.set()

    threading.Thread(target=calls_on, daemon=True).start()
    begun.wait()


def streams() -> None:
    """A stream is left half-way."""
    stream = lm.stream("half of this")
    next(stream)
    globals()["kept"] = stream


def forks() -> None:
    """Parent and children record, and the children end in three ways."""
    children = []
    for end in (lambda: sys.exit(0), lambda: os._exit(0), lambda: os.kill(os.getpid(), signal.SIGKILL)):
        child = os.fork()
        if child == 0:
            call("from a child")
            call("again from a child")
            end()
        children.append(child)
        call("from the parent")
    for child in children:
        os.waitpid(child, 0)


def forks_amid_calls() -> None:
    """Forks while other threads are in the middle of calls; whoever holds a lock then is not in the child."""
    stop = threading.Event()

    def calls_on() -> None:
        own = instant_lm()
        while not stop.is_set():
            own("from a thread")
            os.write(1, f"{uuid_of(own)}\n".encode())

    threads = [threading.Thread(target=calls_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        child = os.fork()
        if child == 0:
            call("from a child")
            os._exit(0)
        os.waitpid(child, 0)
    stop.set()
    for thread in threads:
        thread.join()


def pool(method: str) -> None:
    with ProcessPoolExecutor(3, multiprocessing.get_context(method)) as workers:
        list(workers.map(call_in_child, range(12)))


def fork_pool() -> None:
    pool("fork")


def spawn_pool() -> None:
    pool("spawn")


def forkserver_pool() -> None:
    pool("forkserver")


def multiprocessing_pool() -> None:
    """The older pool, whose workers are terminated, not ended."""
    with multiprocessing.get_context("fork").Pool(3) as workers:
        workers.map(call_in_child, range(12))


if __name__ == "__main__":
    if sys.argv[1] == "at_exit":
        atexit.register(call, "after lmtrace")  # functions that were registered first run last
    call()
    globals()[sys.argv[1]]()
