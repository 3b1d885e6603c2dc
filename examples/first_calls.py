"""`lmtrace.LM`: called with a prompt or with messages, it answers with a list and remembers."""

import lmtrace
from lmtrace.testing import LoopbackProvider

with LoopbackProvider() as provider:
    lm = lmtrace.LM("openai/gpt-4o-mini", temperature=0.7, api_base=provider.openai_base, api_key="any")
    print(lm("Say this is a test!"))
    print(lm(messages=[{"role": "user", "content": "What is the capital of Japan?"}], max_tokens=50))

    last = lm.history[-1]
    print(last["usage"]["total_tokens"], "tokens,", last["cost"], "US dollars")
