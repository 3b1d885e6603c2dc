"""Classification: one of three words, and how sure the model is of it. Many sentences at once, in threads."""

from typing import Literal

import dspy
from _twice import twice

SENTENCES = [
    "This book was fun to read, though not its last chapter.",
    "The parcel came broken, and nobody answers.",
    "The shop is open from nine to five.",
]


class Classify(dspy.Signature):
    """Say which mood a sentence is in."""

    sentence: str = dspy.InputField()
    sentiment: Literal["positive", "negative", "neutral"] = dspy.OutputField()
    confidence: float = dspy.OutputField()


def program() -> str:
    classify, in_threads = dspy.Predict(Classify), dspy.Parallel(num_threads=3, disable_progress_bar=True)
    examples = [dspy.Example(sentence=sentence).with_inputs("sentence") for sentence in SENTENCES]
    found = in_threads([(classify, example) for example in examples])
    return "\n".join(f"{one.sentiment} ({one.confidence}): {text}" for one, text in zip(found, SENTENCES, strict=True))


def model(request):
    if "fun" in request.prompt:
        return {"sentiment": "positive", "confidence": 0.75}
    return {"sentiment": "negative" if "broken" in request.prompt else "neutral", "confidence": 0.9}


twice(program, model)
