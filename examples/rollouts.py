"""The same request under several rollout ids: which answer was better, and what did each cost?"""

import lmtrace
from lmtrace.testing import LoopbackProvider

with LoopbackProvider() as provider, lmtrace.run("rollouts"):
    lm = lmtrace.LM("openai/gpt-4o-mini", temperature=1.0, api_base=provider.openai_base, api_key="any")
    for number, answer in enumerate(["Blue.", "Deep blue, almost black.", "Blue, I think."]):
        provider.reply(answer)
        lm("What colour is the sea?", rollout_id=number)

rows = lmtrace.history().sql(
    "SELECT rollout_id, output_text, output_tokens, cost FROM calls WHERE run_name = 'rollouts' ORDER BY timestamp"
)
for row in rows.fetchall()[-3:]:
    print(*row, sep=" | ")
