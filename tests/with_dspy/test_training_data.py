"""Recorded programs as training data: `lmtrace.dspy.examples` and ``lmtrace export --to finetune``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dspy
import pytest
from click.testing import CliRunner

import lmtrace
import lmtrace.dspy
from lmtrace._cli import cli
from lmtrace.testing import LoopbackProvider, ReceivedRequest, Reply

QUESTIONS = ("kiwi", "plum", "quince")


class RAG(dspy.Module):
    """Two predictors, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.query = dspy.Predict("question -> search: list[str]")
        self.answer = dspy.ChainOfThought("question, context: list[str] -> answer")

    def forward(self, question: str) -> Any:
        return self.answer(question=question, context=self.query(question=question).search)


def answer(request: ReceivedRequest) -> Reply:
    """All fields; the answer is the question."""
    question = next(word for word in QUESTIONS if word in str(request.body))
    fields = {"search": '["a", "b"]', "reasoning": "so", "answer": question}
    return Reply(text="\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()))


def right(example: Any, prediction: Any, trace: Any = None) -> bool:
    return bool(example.answer == prediction.answer)


@pytest.fixture
def recorded(instrumented: None, provider: LoopbackProvider, tmp_path: Path) -> Path:
    """A store with an evaluation of three questions, two of them right, and one question asked twice."""
    provider.respond(answer)
    lmtrace.configure(store=tmp_path / "store")
    wanted = {"kiwi": "kiwi", "plum": "plum", "quince": "pear"}
    address = {"api_key": "sk-loopback-0123456789", "api_base": provider.openai_base}
    lm = dspy.LM("openai/gpt-4o-mini", cache=False, num_retries=0, **address)
    devset = [dspy.Example(question=text, answer=wanted[text]).with_inputs("question") for text in QUESTIONS]
    with dspy.context(lm=lm):
        with lmtrace.run("rag"):
            dspy.Evaluate(devset=devset, metric=right, display_progress=False, num_threads=2)(RAG())
        RAG()(question="kiwi")
    lmtrace.flush()
    return tmp_path / "store"


def test_predictors(recorded: Path) -> None:
    """A predictor's examples have the fields of its signature, as data, with its inputs set; each is there once."""
    found = lmtrace.dspy.examples("RAG.answer.predict")
    assert all(type(one) is dspy.Example for one in found)
    assert sorted(one.question for one in found) == sorted(QUESTIONS)
    assert found[0].toDict().keys() == {"question", "context", "reasoning", "answer"}
    assert set(found[0].inputs().keys()) == {"question", "context"}
    assert found[0].context == ["a", "b"]
    assert {frozenset(one.inputs().keys()) for one in lmtrace.dspy.examples()} == {
        frozenset({"question"}),
        frozenset({"question", "context"}),
    }


def test_programs(recorded: Path) -> None:
    """A program's examples are its arguments and the fields of its answer, and train a program as they are."""
    found = lmtrace.dspy.examples("RAG", run="rag")
    assert {tuple(one.inputs().toDict().items()) for one in found} == {(("question", text),) for text in QUESTIONS}
    demos = dspy.LabeledFewShot(k=2).compile(dspy.Predict("question -> answer"), trainset=found).demos
    assert len(demos) == 2


@pytest.mark.parametrize("scope", ["RAG", "RAG.answer", "RAG.answer.predict"])
def test_scores(recorded: Path, scope: str) -> None:
    """Only what led to a score that is good enough, wherever in the program."""
    found = lmtrace.dspy.examples(scope, min_score=1)
    assert {one.question for one in found} == {"kiwi", "plum"}
    assert lmtrace.dspy.examples(scope, where="run_name = 'other'") == []
    assert len(lmtrace.dspy.examples(scope, path=recorded)) == 3


def test_finetune(recorded: Path, tmp_path: Path) -> None:
    """The export has the shape that DSPy's own `BootstrapFinetune` makes of a program, without what scored badly."""
    target = tmp_path / "train.jsonl"
    command = ["export", str(target), "--to", "finetune", "--scope", "RAG.answer", "--min-score", "1"]
    done = CliRunner().invoke(cli, [*command, "--store", str(recorded)])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 2
    signature = RAG().answer.predict.signature
    outputs = {"reasoning": "so", "answer": "kiwi"}
    theirs = dspy.ChatAdapter().format_finetune_data(
        signature=signature, demos=[], inputs={"question": "kiwi", "context": ["a", "b"]}, outputs=outputs
    )
    (ours,) = [line for line in lines if line["messages"][1] == theirs["messages"][1]]
    assert ours.keys() == theirs.keys()
    assert ours["messages"][:-1] == theirs["messages"][:-1]
    assert ours["messages"][-1].keys() == theirs["messages"][-1].keys()
    assert dspy.ChatAdapter().parse(signature, ours["messages"][-1]["content"]) == outputs
