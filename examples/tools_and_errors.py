"""Tool calls come back as data, passing failures are retried, and lasting ones are errors by kind."""

import lmtrace
from lmtrace.testing import LoopbackProvider

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}

with LoopbackProvider() as provider:
    lm = lmtrace.LM("openai/gpt-4o-mini", api_base=provider.openai_base, api_key="any")

    provider.reply(tool_calls=[{"name": "weather", "arguments": {"city": "Paris"}}])
    print(lm("How is the weather in Paris?", tools=[WEATHER])[0]["tool_calls"][0]["function"])

    provider.fail(status=503, retry_after=0)
    print(lm("hello"), "after", lm.history[-1].attempts, "attempts")

    provider.fail(status=401, message="bad key")
    try:
        lm("goodbye")
    except lmtrace.LMError as error:
        print(type(error).__name__, error.status)
