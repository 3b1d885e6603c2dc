"""A program that runs as if it had been started directly: same terminal, same signals, same exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""What a shell returns for a command it cannot start."""

_FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
_FROM_TERMINAL = ("SIGINT", "SIGQUIT")


def run_child(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run `command` to its end and return what `subprocess` calls its return code: negative for a signal.

    Raises:
        OSError: it cannot be started.
    """
    child: list[subprocess.Popen[bytes]] = []
    with _forwarding(child):
        child.append(subprocess.Popen(command, env=dict(environ)))  # noqa: S603  # the user's own command
        return child[0].wait()


@contextmanager
def _forwarding(child: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Pass signals on to `child`, except those that the terminal has sent to it already."""

    def forward(number: int, frame: FrameType | None) -> None:
        if child and not (signal.Signals(number).name in _FROM_TERMINAL and _in_foreground()):
            child[0].send_signal(number)

    numbers = [getattr(signal, name) for name in _FORWARDED if hasattr(signal, name)]
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_foreground() -> bool:
    """Whether the terminal sends its signals to our whole process group."""
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (OSError, AttributeError, ValueError):
        return False


def leave_like(code: int) -> NoReturn:
    """End this process the way the child ended: with its status, or by its signal."""
    if code >= 0:
        raise SystemExit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    if -code in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", 0), getattr(signal, "SIGKILL", 0)):
        if -code != getattr(signal, "SIGKILL", 0):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    raise SystemExit(128 - code)
