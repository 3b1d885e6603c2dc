"""BootstrapFewShotWithRandomSearch: which examples in the prompt make the program better?"""

import dspy
from _desk import EXAMPLES, model, right, score
from _twice import twice

sort = dspy.Predict("message -> team")


def program() -> str:
    search = dspy.BootstrapFewShotWithRandomSearch(
        metric=right, num_candidate_programs=2, max_bootstrapped_demos=1, max_labeled_demos=2, num_threads=4
    )
    better = search.compile(sort, trainset=EXAMPLES)
    return f"score {score(sort):.0f} → {score(better):.0f}, with {len(better.demos)} examples in the prompt"


twice(program, model)
