"""How a test kills a process that acknowledges what it has done, for the folders of tests that do so."""

from __future__ import annotations

import os
import select
import subprocess
import time


def killed_after(process: subprocess.Popen[str], seconds: float) -> set[str]:
    """Collect acknowledgements until so many seconds after the first, kill the process, and return all of them."""
    assert process.stdout is not None
    fd, data, deadline = process.stdout.fileno(), b"", None
    while (deadline is None or time.monotonic() < deadline) and (chunk := next_chunk(fd, deadline)):
        deadline = deadline or time.monotonic() + seconds
        data += chunk
    process.kill()
    while chunk := os.read(fd, 1 << 20):
        data += chunk
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()  # a thousand processes would leave more than `select` can take
    process.stdin = process.stdout = None
    acknowledged = set(data.decode().split("\n")[:-1])
    assert acknowledged, "it ended before it had done anything"
    return acknowledged


def next_chunk(fd: int, deadline: float | None) -> bytes:
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    return os.read(fd, 1 << 20) if select.select([fd], [], [], left)[0] else b""
