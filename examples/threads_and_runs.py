"""Many calls at once: threads of your own belong to the run around them, and share its trace."""

from concurrent.futures import ThreadPoolExecutor

import lmtrace
from lmtrace.testing import LoopbackProvider

CITIES = ["France", "Germany", "Japan"] * 4

with LoopbackProvider() as provider, lmtrace.run("capitals", tags={"exp": "threads"}) as run:
    lm = lmtrace.LM("openai/gpt-4o-mini", api_base=provider.openai_base, api_key="any")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda city: lm(f"What is the capital of {city}?")[0], CITIES))

print(answers[:3], run.calls, "calls")
traces = lmtrace.history().sql("SELECT DISTINCT trace_id FROM calls WHERE run_id = ?", [run.id]).fetchall()
print(len(traces), "trace")
