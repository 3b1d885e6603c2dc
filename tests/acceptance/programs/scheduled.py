"""Sixteen threads and sixty-four asyncio tasks ask, with tasks of their own inside; every second question is the same.

Arguments: mode of the session, cassette, file for the answers, number of calls, seed of the delays, address of a provider or "none".

What a task is answered depends on the task alone, and is written down as ``{task: [answer, …]}``. While a cassette is
replayed every socket is refused, and counted.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import lmtrace
from lmtrace import LMOutput, LMRequest, LMResponse, LMTextPart, LMUsage

mode, cassette, results, total, seed, address = sys.argv[1:]
THREADS, TASKS, INSIDE = 16, 64, 4
share = int(total) // ((THREADS + TASKS) * (1 + INSIDE))
"""Calls of each task: of the outer ones, and of the four that each of them starts."""

dice = random.Random(int(seed))
who: ContextVar[str] = ContextVar("who")
answers: dict[str, list[Any]] = defaultdict(list)
asked = itertools.count(1)
refused = itertools.count(1)


class Scripted:
    """A provider in this process: says who asks, and for the how-manieth time."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = defaultdict(int)

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        next(asked)
        name = who.get()
        self.counts[name] += 1
        text = f"{name} asks for the {self.counts[name]}. time"
        usage = LMUsage(input_tokens=10, output_tokens=5, total_tokens=15)
        return LMResponse(
            model="scripted-1", outputs=[LMOutput(parts=[LMTextPart(text)], finish_reason="stop")], usage=usage
        )

    async def acomplete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        await asyncio.sleep(delay())
        return self.complete(request, secrets)

    def stream(self, request: LMRequest, secrets: Mapping[str, Any]) -> Any:
        raise NotImplementedError

    astream: Any = stream


scripted = lmtrace.LM("scripted/one", cache=False, temperature=0.7, backend=Scripted())
remote = (
    scripted
    if address == "none"
    else lmtrace.LM("openai/gpt-4o-mini", cache=False, temperature=0.7, api_base=address, api_key="any")
)


def delay() -> float:
    return dice.choice((0.0, 0.0, 0.0, 0.001 * dice.random()))


def question(number: int) -> tuple[lmtrace.LM, str, dict[str, Any]]:
    """The n-th question of a task: the same for all tasks, or its own; from a rollout or not; here and over HTTP."""
    text = "Say anything." if number % 2 else f"What is number {number} of {who.get()}?"
    options: dict[str, Any] = {"rollout_id": number % 3} if number % 3 else {}
    return (remote, text, {**options, "user": who.get()}) if number == 1 else (scripted, text, options)


def ask() -> None:
    for number in range(1, share + 1):
        time.sleep(delay())
        lm, text, options = question(number)
        answers[who.get()] += lm(text, **options)


async def aask() -> None:
    for number in range(1, share + 1):
        await asyncio.sleep(delay())
        lm, text, options = question(number)
        answers[who.get()] += await lm.acall(text, **options)


def inner(name: str) -> None:
    who.set(name)
    ask()


def outer(name: str, pool: ThreadPoolExecutor) -> None:
    """Two pieces of work for a pool that everybody uses, a thread, and an event loop."""
    who.set(name)
    futures = [pool.submit(inner, f"{name}-pool{n}") for n in range(2)]
    thread = threading.Thread(target=inner, args=(f"{name}-thread",))
    thread.start()
    ask()
    asyncio.run(ainner(f"{name}-loop"))
    thread.join()
    for future in futures:
        future.result()


async def ainner(name: str) -> None:
    who.set(name)
    await aask()


async def aouter(name: str) -> None:
    """Two tasks, one in a group, and a thread."""
    who.set(name)
    async with asyncio.TaskGroup() as group:
        group.create_task(ainner(f"{name}-group"))
        apart = asyncio.create_task(asyncio.to_thread(inner, f"{name}-to_thread"))
        await asyncio.gather(*(ainner(f"{name}-gather{n}") for n in range(2)))
        await aask()
        await apart


async def all_tasks() -> None:
    await asyncio.gather(*(aouter(f"task{n}") for n in range(TASKS)))


def main() -> None:
    with ThreadPoolExecutor(4) as inside, ThreadPoolExecutor(THREADS // 2) as pool:
        futures = [pool.submit(outer, f"work{n}", inside) for n in range(THREADS // 2)]
        threads = [threading.Thread(target=outer, args=(f"thread{n}", inside)) for n in range(THREADS // 2)]
        for thread in threads:
            thread.start()
        asyncio.run(all_tasks())
        for thread in threads:
            thread.join()
        for future in futures:
            future.result()


def refuse(*args: Any, **options: Any) -> Any:
    next(refused)
    raise OSError("no network here")


if mode == "replay":
    for name in ("connect", "connect_ex", "sendto"):
        setattr(socket.socket, name, refuse)
    socket.getaddrinfo = socket.create_connection = refuse

elif remote is not scripted:
    import litellm

    litellm.suppress_debug_info = litellm.disable_aiohttp_transport = True

with lmtrace.replay(cassette, mode=mode):  # type: ignore[arg-type]
    main()
outcome = {
    "answers": answers,
    "asked": next(asked) - 1,
    "refused": next(refused) - 1,
    "litellm": "litellm" in sys.modules,
}
Path(results).write_text(json.dumps(outcome), encoding="utf-8")
