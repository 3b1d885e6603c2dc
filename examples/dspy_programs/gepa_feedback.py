"""GEPA: the metric says what was wrong, and the model writes a better instruction after reading it."""

import dspy
from _desk import EXAMPLES, model, right, score
from _twice import twice

sort = dspy.Predict("message -> team")


def metric(example, prediction, *_):
    good = right(example, prediction)
    return dspy.Prediction(score=good, feedback="Right." if good else f"Just say {example.team}.")


def program() -> str:
    optimiser = dspy.GEPA(metric=metric, max_metric_calls=24, reflection_lm=dspy.settings.lm, num_threads=4, seed=1)
    better = optimiser.compile(sort, trainset=EXAMPLES[:4], valset=EXAMPLES[4:])
    return f"score {score(sort):.0f} → {score(better):.0f}, by the instruction: {better.signature.instructions}"


twice(program, model)
