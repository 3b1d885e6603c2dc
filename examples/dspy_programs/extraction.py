"""Extraction: a title, headings and entities out of a text, as Python's own types."""

import dspy
from _twice import twice

TEXT = "Apple Inc. announced the iPhone 14 today. Its CEO, Tim Cook, praised the camera in a press release."


class Extract(dspy.Signature):
    """Find what is structured in a text."""

    text: str = dspy.InputField()
    title: str = dspy.OutputField()
    headings: list[str] = dspy.OutputField()
    entities: list[dict[str, str]] = dspy.OutputField(desc="names, and what kind of thing each is")


def program() -> str:
    found = dspy.Predict(Extract)(text=TEXT)
    entities = ", ".join(f"{entity['name']} ({entity['kind']})" for entity in found.entities)
    return f"{found.title}\n{' / '.join(found.headings)}\n{entities}"


def model(request):
    entities = {"Apple Inc.": "company", "iPhone 14": "product", "Tim Cook": "person"}
    return {
        "title": "Apple announces the iPhone 14",
        "headings": ["The announcement", "What the CEO says"],
        "entities": [{"name": name, "kind": kind} for name, kind in entities.items()],
    }


twice(program, model)
