"""LiteLLM called directly: after `instrument()` every call is a span and a row."""

import asyncio
import os

import lmtrace
from lmtrace.testing import LoopbackProvider

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
lmtrace.instrument()

import litellm  # noqa: E402 - the order does not matter, and this shows it

MODEL = "openai/gpt-4o-mini"
MESSAGES = [{"role": "user", "content": "Who wrote Hamlet?"}]


async def ask(**options: str) -> str:
    answer = await litellm.acompletion(MODEL, MESSAGES, **options)
    return answer.choices[0].message.content


with LoopbackProvider() as provider, lmtrace.run("direct") as run:
    where = {"api_base": provider.openai_base, "api_key": "any"}
    print(litellm.completion(MODEL, MESSAGES, **where).choices[0].message.content)
    print(asyncio.run(ask(**where)))
    for chunk in litellm.completion(MODEL, MESSAGES, stream=True, **where):
        print(chunk.choices[0].delta.content or "", end="")
    print()
    vectors = litellm.embedding("openai/text-embedding-3-small", ["one", "two"], **where)
    print(len(vectors.data), "vectors")

print(run.calls, "calls recorded")
