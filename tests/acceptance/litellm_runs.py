"""LiteLLM in tests: coroutines of it run to their end, and nothing of their event loop is left for the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import litellm


def run(work: Awaitable[Any]) -> Any:
    """What `asyncio.run` does; LiteLLM keeps its connections, and those of a closed loop are of no use to another."""

    async def main() -> Any:
        forget_clients()
        try:
            return await work
        finally:
            await litellm.close_litellm_async_clients()
            client = forget_clients()
            if client is not None:
                await client.close()

    return asyncio.run(main())


def forget_clients() -> Any:
    """Empty LiteLLM's cache of clients; returns the one it keeps beside the cache and makes anew when there is none."""
    litellm.in_memory_llm_clients_cache.flush_cache()
    return vars(litellm).pop("module_level_aclient", None)
