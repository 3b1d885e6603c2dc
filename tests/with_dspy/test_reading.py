"""`lmtrace diff`, `rollouts` and `ls` read calls of DSPy as what the program gave and got."""

from __future__ import annotations

import json
from typing import Any

import dspy
import pytest
from click.testing import CliRunner, Result

import lmtrace
from lmtrace._cli import cli
from lmtrace.testing import LoopbackProvider


class Answer(dspy.Signature):
    """Answer the question.

    Be brief.
    """

    context: list[str] = dspy.InputField()
    question: str = dspy.InputField(desc="what is asked")
    reasoning: str = dspy.OutputField()
    answer: str = dspy.OutputField()


DEMOS = [
    dspy.Example(context=["a", "b"], question="q1\nmore", reasoning="so", answer="x"),
    dspy.Example(question="q2", answer="y"),
]
ANSWERS = {
    "ChatAdapter": "[[ ## reasoning ## ]]\nso\n\n[[ ## answer ## ]]\n{}\n\n[[ ## completed ## ]]",
    "JSONAdapter": '{{"reasoning": "so", "answer": "{}"}}',
    "XMLAdapter": "<reasoning>\nso\n</reasoning>\n\n<answer>\n{}\n</answer>",
}


@pytest.fixture(params=["ChatAdapter", "JSONAdapter", "XMLAdapter"])
def adapter(request: pytest.FixtureRequest, provider: LoopbackProvider) -> Any:
    """Each adapter, and a provider that answers ``one``, ``two`` and so on in its form."""
    words = iter(["one", "two", "three", "four"])
    provider.respond(lambda request_: ANSWERS[request.param].format(next(words)))
    with dspy.context(adapter=getattr(dspy, request.param)()):
        yield request.param


def invoke(*arguments: str, columns: int = 100) -> Result:
    lmtrace.flush(5)
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(cli, list(arguments))


def changes(*arguments: str) -> dict[str, Any]:
    """What `lmtrace diff --json` says of the only pair: the words of each change by its name."""
    result = invoke("diff", *arguments, "--json")
    (pair,) = [line for line in map(json.loads, result.stdout.splitlines()) if line["row"] == "pair"]
    return {change["where"]: change["words"] for change in pair["changes"]}


def test_diff(lm: Any, adapter: str, instrumented: None) -> None:
    """Instructions, demos and fields of both runs by their names, and no marker of any adapter."""
    predict = dspy.Predict(Answer)
    predict.demos = DEMOS
    with lmtrace.run("first"):
        predict(context=["c"], question="why")
    predict.signature = predict.signature.with_instructions("Answer the question.\n\nBe very brief.")
    predict.demos = DEMOS[:1]
    with lmtrace.run("second") as run:
        predict(context=["c"], question="how")
    found = changes("first", "second")
    assert set(found) == {"instructions", "demos", "input question", "output answer"}
    assert [word[0] for word in found["instructions"]] == ["=", "+", "="]
    assert [kind for kind, _ in found["demos"]] in (["=", "-"], ["-", "="])
    assert found["output answer"] == [["-", "one"], ["+", "two"]]
    shown = invoke("diff", "first", "second").stdout
    assert 'input context: ["c"]' in shown
    assert not any(mark in shown for mark in ("[[ ##", "<answer>", '{"reasoning"', "Your input fields"))
    run.diff("first")


def test_rollouts(lm: Any, adapter: str, instrumented: None, capsys: pytest.CaptureFixture[str]) -> None:
    """The rollouts of a request are a table of their fields; what is the same in all is said once."""
    predict = dspy.Predict(Answer)
    predict.demos = DEMOS
    with lmtrace.run("r") as run:
        for rollout in (1, 2):
            predict(context=["c"], question="why", config={"rollout_id": rollout, "temperature": 1.0})
    (request,) = map(json.loads, invoke("rollouts", "--json").stdout.splitlines())
    assert (request["rollouts"], request["answers"]) == (2, 2)
    run.rollouts()
    assert request["uuids"][0][-8:] in capsys.readouterr().out
    shown = invoke("rollouts", request["uuids"][0]).stdout
    assert "demos: 2" in shown
    assert "question: why" in shown
    assert "reasoning (all the same): so" in shown
    lines = [line.split() for line in shown.splitlines()[-3:]]
    assert [line[:3] for line in lines[1:]] == [["1", lines[1][1], "one"], ["2", lines[2][1], "two"]]
    told = [json.loads(line) for line in invoke("rollouts", request["uuids"][1], "--json").stdout.splitlines()]
    assert [row["fields"] for row in told] == [{"reasoning": "so", "answer": word} for word in ("one", "two")]


def test_rollouts_of_an_evaluation(lm: Any, provider: LoopbackProvider, instrumented: None) -> None:
    """A rollout that was made for an example has the score of that example."""
    words = iter(["good", "bad"])
    provider.respond(lambda request: ANSWERS["ChatAdapter"].format(next(words)))
    examples = [dspy.Example(context=["c"], question="why").with_inputs("context", "question")]
    predict = dspy.Predict(Answer)
    for rollout in (1, 2):
        predict.config = {"rollout_id": rollout, "temperature": 1.0}
        dspy.Evaluate(devset=examples, metric=lambda _, got, *__: got.answer == "good", num_threads=1)(predict)
    (request,) = map(json.loads, invoke("rollouts", "--json").stdout.splitlines())
    told = [json.loads(line) for line in invoke("rollouts", request["uuids"][0], "--json").stdout.splitlines()]
    assert [(row["fields"]["answer"], row["score"]) for row in told] == [("good", 1.0), ("bad", 0.0)]
    shown = invoke("diff", "last#1", "last#2").stdout
    assert "score 1 → 0" in shown


def test_a_list_of_calls(lm: Any, adapter: str, instrumented: None) -> None:
    """In a list a call is its inputs and its answer."""
    dspy.Predict(Answer)(context=["c"], question="why")
    (line,) = invoke("ls", columns=160).stdout.splitlines()[1:]
    assert 'question: why · context: ["c"]' in line
    assert "answer: one" in line
