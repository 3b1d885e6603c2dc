"""An agent: ReAct searches, calculates and answers. Its tools run in the replay as well; only the model is recorded."""

import dspy
from _twice import asked, twice


def search(query: str) -> str:
    """Look something up."""
    return "David Gregory of Kinnairdy castle was born in 1625." if "Gregory" in query else "Nothing found."


def divide(dividend: float, divisor: float) -> float:
    """Divide one number by another."""
    return dividend / divisor


def program() -> str:
    agent = dspy.ReAct("question -> answer: float", tools=[search, divide])
    found = agent(question="What is 9362158 divided by the year in which David Gregory of Kinnairdy was born?")
    steps = [name for key, name in sorted(found.trajectory.items()) if key.startswith("tool_name")]
    return f"{' → '.join(steps)}: {found.answer:.3f}"


def model(request):
    if "next_tool_name" not in asked(request):
        return {"reasoning": "The tools say so.", "answer": 5761.328}
    if "5761" in request.prompt:
        return think("That is the answer.", "finish")
    if "1625" in request.prompt:
        return think("Now divide.", "divide", dividend=9362158, divisor=1625)
    return think("First the year.", "search", query="David Gregory birth")


def think(thought, tool, **arguments):
    return {"next_thought": thought, "next_tool_name": tool, "next_tool_args": arguments}


twice(program, model)
