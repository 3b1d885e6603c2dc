"""A running provider for each test, and LiteLLM without its advertisement and without clients left open."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator

import pytest

from lmtrace.testing import LoopbackProvider


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    """A loopback provider that is closed when the test ends."""
    with LoopbackProvider() as provider:
        yield provider


@pytest.fixture
async def litellm_clients(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """LiteLLM keeps HTTP clients for an hour, the asynchronous ones tied to a loop that ends with the test."""
    import litellm

    monkeypatch.setattr(litellm, "suppress_debug_info", True)  # it prints to stdout for every error it maps
    yield
    cache = litellm.in_memory_llm_clients_cache
    for client in list(cache.cache_dict.values()):
        closing = client.close()
        if inspect.isawaitable(closing):
            await closing
    cache.flush_cache()
    await litellm.module_level_aclient.client._transport.aclose()  # only its session: the client is LiteLLM's for good
