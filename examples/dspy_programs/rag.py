"""Retrieval: a question becomes a search, and what is found becomes an answer."""

import dspy
from _twice import asked, twice

PASSAGES = [
    "David Gregory, a Scottish physician and inventor, inherited Kinnairdy Castle in 1664.",
    "Kinnairdy Castle stands above the river Deveron, near Aberchirder.",
    "Edinburgh Castle stands on a rock that was a volcano.",
]


def search(query: str, count: int = 2) -> list[str]:
    """The passages that share most words with the query."""
    words = set(query.lower().split())
    return sorted(PASSAGES, key=lambda passage: -len(words & set(passage.lower().split())))[:count]


class RAG(dspy.Module):
    def __init__(self):
        super().__init__()
        self.query = dspy.Predict("question -> query")
        self.respond = dspy.ChainOfThought("context, question -> response")

    def forward(self, question):
        found = self.query(question=question)
        return self.respond(context=search(found.query), question=question)


def program() -> str:
    return RAG()(question="Which castle did David Gregory inherit, and when?").response


def model(request):
    if "query" in asked(request):
        return {"query": "David Gregory inherited castle"}
    found = "1664" if "in 1664" in request.prompt else "some year"
    return {"reasoning": "The first passage says so.", "response": f"Kinnairdy Castle, in {found}."}


twice(program, model)
