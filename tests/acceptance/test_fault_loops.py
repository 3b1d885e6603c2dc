"""Schedulers that are not asyncio's (fault 38): greenlets of gevent and tasks of trio are answered, and recorded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Query = Callable[[str], list[tuple[Any, ...]]]

GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent, gevent.event
from instant import Instant
import lmtrace

inside, go = [], gevent.event.Event()
class Waiting(Instant):
    def complete(self, request, secrets):
        inside.append(request)
        go.wait()
        return super().complete(request, secrets)
waiting = lmtrace.LM("local/waiting", backend=Waiting(), cache=False)
calls = [gevent.spawn(waiting, str(number)) for number in range(100)]
while len(inside) < 100:
    gevent.sleep(0)
go.set()
gevent.joinall(calls, raise_error=True, timeout=60)
assert [call.value for call in calls] == [[str(number)] for number in range(100)]

go.clear()
killed = gevent.spawn(waiting, "killed")
while len(inside) < 101:
    gevent.sleep(0)
killed.kill()

assert lmtrace.flush(60)
print(lmtrace.stats()["failures"])
"""

GEVENT_AND_LITELLM = """
from gevent import monkey
monkey.patch_all()
import gevent
import lmtrace
from lmtrace.testing import LoopbackProvider

with LoopbackProvider() as provider:
    remote = lmtrace.LM("openai/gpt-4o-mini", api_base=provider.url, api_key="any", cache=False)
    calls = [gevent.spawn(remote, str(number)) for number in range(10)]
    gevent.joinall(calls, raise_error=True, timeout=60)
assert [call.value for call in calls] == [[f"You said: {number}"] for number in range(10)]
assert lmtrace.flush(60)
print(lmtrace.stats()["failures"])
"""

TRIO = """
import trio
from instant import Instant
import lmtrace

class Waiting(Instant):
    asked = 0
    async def acomplete(self, request, secrets):
        Waiting.asked += 1
        text = request.messages[-1]["content"]
        if text == "fails at first" and Waiting.asked % 2 == 0:
            raise ConnectionError
        await (trio.sleep_forever() if text == "never" else trio.sleep(0.01))
        return self.complete(request, secrets)

async def main():
    lm = lmtrace.LM("local/waiting", backend=Waiting(), num_retries=2)
    async def ask(number):
        assert await lm.acall(str(number % 10)) == [str(number % 10)]
    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(ask, number)
    assert Waiting.asked == 10, "those who ask the same share an answer"
    with trio.move_on_after(0.05) as scope:
        await lm.acall("never")
    assert scope.cancelled_caught
    assert await lm.acall("fails at first") == ["fails at first"]
    assert Waiting.asked == 13, "it was asked again"

trio.run(main)
assert lmtrace.flush(60)
print(lmtrace.stats()["failures"])
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """What a program prints."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path.endswith("programs")))

    def start(code: str) -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return start


def test_gevent(run: Callable[[str], str], query: Query) -> None:
    """A hundred greenlets in a call at once, and one that is killed amid its call."""
    assert run(GEVENT) == "{}\n"
    assert query("SELECT model, error_type, count(*), count(DISTINCT uuid) FROM calls GROUP BY ALL ORDER BY ALL") == [
        ("local/waiting", "greenlet.GreenletExit", 1, 1),
        ("local/waiting", None, 100, 100),
    ]


@pytest.mark.slow
def test_gevent_and_litellm(run: Callable[[str], str], query: Query) -> None:
    """Ten greenlets that ask through LiteLLM, over connections that gevent has patched."""
    assert run(GEVENT_AND_LITELLM) == "{}\n"
    assert query("SELECT count(*), count(DISTINCT uuid), count(output_text) FROM calls") == [(10, 10, 10)]


def test_trio(run: Callable[[str], str], query: Query) -> None:
    """Fifty tasks, of which five ask the same each, one that is cancelled, and one whose call is tried again."""
    assert run(TRIO) == "{}\n"
    assert query("SELECT served_by, error_type, count(*), max(attempts) FROM calls GROUP BY ALL ORDER BY ALL") == [
        ("cache", None, 40, 1),
        ("provider", "trio.Cancelled", 1, 1),
        ("provider", None, 11, 2),
    ]
