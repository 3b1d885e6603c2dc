"""Math: a chain of thought that ends in a number."""

import dspy
from _twice import twice

solve = dspy.ChainOfThought("question -> answer: float")


def program() -> str:
    found = solve(question="Two dice are thrown. How probable is a sum of three?")
    return f"{found.answer:.3f}: {found.reasoning}"


def model(request):
    return {"reasoning": "Of 36 throws, 1 + 2 and 2 + 1 have a sum of three.", "answer": 2 / 36}


twice(program, model)
