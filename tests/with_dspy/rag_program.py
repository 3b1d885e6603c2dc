"""A program with steps of every common kind, for tests of what is a step and what is below it."""

from __future__ import annotations

from typing import Any

import dspy


class RAG(dspy.Module):
    """Two predictors, one of them inside another module."""

    def __init__(self) -> None:
        super().__init__()
        self.query = dspy.Predict("question -> search")
        self.answer = dspy.ChainOfThought("question, context -> answer")

    def forward(self, question: str) -> Any:
        found = self.query(question=question).search
        return self.answer(question=question, context=found)

    async def aforward(self, question: str) -> Any:
        found = (await self.query.acall(question=question)).search
        return await self.answer.acall(question=question, context=found)
