"""Waiting in a task without holding up the others, whichever event loop runs it: asyncio's, a look-alike, or trio's."""

from __future__ import annotations

import sys
from typing import Any


async def asleep(seconds: float) -> None:
    """Wait."""
    trio = running_trio()
    if trio is not None:
        await trio.sleep(seconds)
        return
    import asyncio  # programs without a loop need not pay for it

    await asyncio.sleep(seconds)


def running_trio() -> Any:
    """The package trio when it runs the task that asks, else None."""
    trio = sys.modules.get("trio")  # a program that has not imported it has no tasks of it
    lowlevel = getattr(trio, "lowlevel", None)  # another thread may just be importing it
    return trio if lowlevel is not None and lowlevel.in_trio_task() else None
