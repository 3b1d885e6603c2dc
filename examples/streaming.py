"""Text as it arrives. The record is written when the stream ends, also when its reader stops early."""

import asyncio

import lmtrace
from lmtrace.testing import LoopbackProvider


async def read_async(lm: lmtrace.LM) -> None:
    async for text in lm.astream("Who wrote Hamlet?"):
        print(text, end="", flush=True)
    print()


with LoopbackProvider() as provider:
    lm = lmtrace.LM("openai/gpt-4o-mini", api_base=provider.openai_base, api_key="any")
    for text in lm.stream("What is the speed of light?"):
        print(text, end="", flush=True)
    print()
    asyncio.run(read_async(lm))

for entry in lm.history:
    print(entry.streamed, entry.time_to_first_chunk_ms is not None, entry["usage"].get("total_tokens"))
