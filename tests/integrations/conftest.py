"""A loopback provider, LiteLLM instrumented, and a recorder whose rows and spans a test can read."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import litellm
import pytest
from litellm.llms.custom_httpx.async_client_cleanup import close_litellm_async_clients

from lmtrace import _recorder
from lmtrace._failures import failures
from lmtrace._settings import Settings
from lmtrace.integrations.litellm import instrument, uninstrument
from lmtrace.testing import LoopbackProvider

sys.path.insert(0, str(Path(__file__).parent))

from capture import KEY, Captured


@pytest.fixture
def captured() -> Iterator[Captured]:
    """The recorder of the process for one test."""
    found = Captured()
    recorder = _recorder.Recorder(
        Settings(store=None), tracer=found.tracer_provider.get_tracer("test"), exporters=[found]
    )
    before = _recorder.replace(recorder)
    yield found
    _recorder.replace(before)


@pytest.fixture
def instrumented(captured: Captured) -> Iterator[Captured]:
    """LiteLLM recorded; nothing of ours may fail meanwhile."""
    before = failures.counts()
    instrument()
    yield captured
    uninstrument()
    assert failures.counts() == before


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider() as running:
        yield running


@pytest.fixture(autouse=True)
async def tidy_litellm(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """No advice on standard output; HTTP clients of LiteLLM's closed while the event loop they belong to still runs."""
    monkeypatch.setattr(litellm, "suppress_debug_info", True)
    monkeypatch.setattr(litellm, "disable_aiohttp_transport", True)
    yield
    await close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()


@pytest.fixture
def openai(provider: LoopbackProvider) -> dict[str, Any]:
    """Arguments that lead LiteLLM's OpenAI code to the loopback provider."""
    return {"api_base": provider.openai_base, "api_key": KEY}
