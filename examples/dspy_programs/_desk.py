"""What the optimisers here are given: messages to a help desk, and a model that has to be told how to sort them."""

from __future__ import annotations

from typing import Any

import dspy
from _twice import asked

from lmtrace.testing import ReceivedRequest

TEAMS = {"invoice": "billing", "parcel": "delivery", "refund": "billing", "courier": "delivery"}
EXAMPLES = [
    dspy.Example(message=f"A question about my {word}, the {nth} one.", team=team).with_inputs("message")
    for nth in ("first", "second")
    for word, team in TEAMS.items()
]


def right(example: Any, prediction: Any, *_: Any) -> float:
    """Whether the team is the right one, in a word."""
    return float(prediction.team == example.team)


def score(program: Any) -> float:
    """Of a hundred messages, how many are sorted rightly."""
    result = dspy.Evaluate(devset=EXAMPLES, metric=right, num_threads=4, display_progress=False)(program)
    return float(result.score)


def model(request: ReceivedRequest) -> dict[str, str]:
    """Chatters about billing unless it has seen an example or was told to answer in one word; proposes to say so."""
    if asked(request) != ["team"]:
        return dict.fromkeys(asked(request) or ["instruction"], "Answer with one word, billing or delivery.")
    knows = len(request.messages) > 2 or "one word" in request.messages[0][1]
    team = next((team for word, team in TEAMS.items() if word in request.prompt), "nobody")
    return {"team": team if knows or "invoice" in request.prompt else f"I think it is for {team}."}
