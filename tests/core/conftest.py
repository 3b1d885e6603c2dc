"""What the tests of the core share; the backends they ask are in `backends`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from backends import drain, drain_async

from lmtrace._traced import TracedBackend
from lmtrace.testing import Captured, capture


@pytest.fixture
def captured() -> Iterator[Captured]:
    """What is recorded during the test, with the default settings and no store."""
    with capture() as captured:
        yield captured


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures inside lmtrace are counted and swallowed, as they are for users."""
    monkeypatch.delenv("LMTRACE_TEST_RAISE")


Ask = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """`ask(backend, request, secrets)` in both ways: the answer and the history entry."""
    if request.param == "sync":
        return lambda backend, asked, secrets=None: TracedBackend(backend).call(asked, secrets or {})
    return lambda backend, asked, secrets=None: asyncio.run(TracedBackend(backend).acall(asked, secrets or {}))


@pytest.fixture(params=["sync", "async"])
def read(request: pytest.FixtureRequest) -> Ask:
    """`read(backend, request, secrets, steps=None)`: a stream in both ways, closed after `steps`; its texts."""
    if request.param == "sync":
        return drain
    return lambda *args, **kwargs: asyncio.run(drain_async(*args, **kwargs))
