"""BootstrapFinetune: the calls that the metric found good become training data. Here they are kept, and nothing is trained."""

import json
from pathlib import Path

import dspy
from _desk import EXAMPLES, model, right
from _twice import twice
from dspy.clients.provider import Provider


class Keep(Provider):
    """Writes the training data down, and goes on with the model as it was."""

    def __init__(self):
        super().__init__()
        self.finetunable = True

    @staticmethod
    def finetune(job, model, train_data, train_data_format, train_kwargs=None):
        Path("training.jsonl").write_text("".join(json.dumps(line) + "\n" for line in train_data))
        return model


def program() -> str:
    sort = dspy.Predict("message -> team")
    sort.set_lm(dspy.settings.lm.copy(provider=Keep()))
    dspy.BootstrapFinetune(metric=right, num_threads=4).compile(sort, trainset=EXAMPLES)
    lines = [json.loads(line) for line in Path("training.jsonl").read_text().splitlines()]
    answer = lines[0]["messages"][-1]["content"].splitlines()[1]
    return f"{len(lines)} of {len(EXAMPLES)} calls are training data; the first ends in {answer!r}"


twice(program, model)
