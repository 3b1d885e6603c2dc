"""A pipeline of two stages: an outline, then one draft for each of its sections."""

import dspy
from _twice import asked, twice


class Outline(dspy.Signature):
    """Outline an article about a topic."""

    topic: str = dspy.InputField()
    title: str = dspy.OutputField()
    sections: dict[str, list[str]] = dspy.OutputField(desc="headings of sections, each with its subheadings")


class Draft(dspy.Signature):
    """Write one section of an article."""

    title: str = dspy.InputField()
    heading: str = dspy.InputField()
    subheadings: list[str] = dspy.InputField()
    content: str = dspy.OutputField(desc="Markdown")


class Article(dspy.Module):
    def __init__(self):
        super().__init__()
        self.outline = dspy.ChainOfThought(Outline)
        self.draft = dspy.ChainOfThought(Draft)

    def forward(self, topic):
        outline = self.outline(topic=topic)
        drafts = [
            self.draft(title=outline.title, heading=heading, subheadings=subheadings)
            for heading, subheadings in outline.sections.items()
        ]
        return dspy.Prediction(title=outline.title, sections=[draft.content for draft in drafts])


def program() -> str:
    article = Article()(topic="The World Cup of 2002")
    return "\n\n".join([f"# {article.title}", *article.sections])


def model(request):
    if "sections" in asked(request):
        sections = {"Qualification": ["Europe", "Asia"], "The final": ["Goals"]}
        return {"reasoning": "In order of time.", "title": "World Cup 2002", "sections": sections}
    if "Qualification" in request.prompt:
        return {"reasoning": "Briefly.", "content": "## Qualification\n\nJapan and South Korea took part as hosts."}
    return {"reasoning": "Briefly.", "content": "## The final\n\nBrazil beat Germany with two goals of Ronaldo."}


twice(program, model)
