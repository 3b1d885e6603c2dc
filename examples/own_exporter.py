"""Rows to a place of your own, beside the store: an exporter is any object with these three methods."""

from collections.abc import Sequence

import lmtrace
from lmtrace import Record
from lmtrace.testing import LoopbackProvider


class Totals:
    """Adds up what calls cost, by model."""

    def __init__(self) -> None:
        self.cost: dict[str, float] = {}

    def export(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.kind == "call":
                row = record.row
                self.cost[row["model"]] = self.cost.get(row["model"], 0.0) + (row.get("cost") or 0.0)

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Nothing to close."""


totals = Totals()
lmtrace.configure(exporters=[totals])
with LoopbackProvider() as provider:
    where = {"api_base": provider.openai_base, "api_key": "any"}
    lmtrace.LM("openai/gpt-4o-mini", **where)("What is the capital of France?")
    lmtrace.LM("openai/gpt-4o", **where)("What is the capital of France?")
print(sorted(totals.cost))
