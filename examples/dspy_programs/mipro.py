"""MIPROv2: instructions proposed by the model, and a search for the best of them. Needs optuna (`pip install optuna`)."""

import dspy
from _desk import EXAMPLES, model, right, score
from _twice import twice

sort = dspy.Predict("message -> team")


def program() -> str:
    optimiser = dspy.MIPROv2(metric=right, auto=None, num_candidates=2, num_threads=4, seed=1)
    better = optimiser.compile(
        sort,
        trainset=EXAMPLES[:4],
        valset=EXAMPLES[4:],
        num_trials=2,
        max_bootstrapped_demos=0,
        max_labeled_demos=0,
        minibatch=False,
    )
    return f"score {score(sort):.0f} → {score(better):.0f}, by the instruction: {better.signature.instructions}"


twice(program, model)
