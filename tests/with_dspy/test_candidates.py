"""Evaluations of a run as scored candidates: in Python, in the store, on spans and as events."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import dspy
import pytest
from click.testing import CliRunner

import lmtrace
from lmtrace._cli import cli
from lmtrace.testing import LoopbackProvider, capture


def examples(count: int) -> list[Any]:
    return [
        dspy.Example(question=f"q{number}", answer=f"a{number % 2}").with_inputs("question") for number in range(count)
    ]


def answering(provider: LoopbackProvider) -> None:
    """`q0` is answered ``a0`` and everything else ``a1``; `q3` is answered with something no adapter can read."""

    def reply(request: Any) -> str:
        asked = json.dumps(request.json["messages"][-1])
        return (
            "no fields" if "q3" in asked else f"[[ ## answer ## ]]\na{int('q0' not in asked)}\n\n[[ ## completed ## ]]"
        )

    provider.respond(reply)


def exact(example: Any, prediction: Any, trace: Any = None) -> bool:
    return bool(example.answer == prediction.answer)


def evaluated(program: Any, count: int = 5, **options: Any) -> Any:
    return dspy.Evaluate(
        devset=examples(count), metric=options.pop("metric", exact), num_threads=options.pop("num_threads", 4),
        display_progress=False, provide_traceback=False, **options,
    )(program)  # fmt: skip


@pytest.mark.parametrize("threads", [1, 4])
def test_a_candidate(lm: Any, provider: LoopbackProvider, captured: Any, threads: int) -> None:
    """An evaluation is a candidate with its score, what failed, and what its own calls took, in any number of threads."""
    answering(provider)
    program = dspy.Predict("question -> answer")
    with lmtrace.run("r") as run:
        program(question="before")
        with dspy.context(adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)):
            result = evaluated(program, num_threads=threads)
        program(question="after")
    (candidate,) = run.candidates
    assert (candidate.program, candidate.metric, candidate.optimiser) == ("Predict", "exact", None)
    assert (candidate.score, candidate.examples, candidate.failed) == (result.score, 5, 1)
    assert candidate.scores == (1.0, 1.0, 0.0, None, 0.0)
    assert (candidate.calls, candidate.errors, run.calls) == (5, 0, 7)
    assert candidate.input_tokens == sum(row["input_tokens"] for row in captured.rows if "evaluation_id" in row)
    assert candidate.cost is not None
    assert run.cost is not None
    assert 0 < candidate.cost < run.cost
    assert candidate.duration_ms > 0


def test_the_same_candidate(lm: Any, captured: Any) -> None:
    """Who a candidate is depends on its instructions and examples, and on nothing else."""
    first, same, told, shown = (dspy.Predict("question -> answer") for _ in range(4))
    told.signature = told.signature.with_instructions("Think.")
    shown.demos = [dspy.Example(question="q", answer="a")]
    with lmtrace.run("r") as run:
        for program in (first, same, told, shown):
            evaluated(program, 1)
    one, two, three, four = sorted(
        run.candidates, key=lambda found: [row["span_id"] for row in captured.span_rows].index(found.id)
    )
    assert (one.instructions_hash, one.demos_hash, one.demos) == (two.instructions_hash, two.demos_hash, 0)
    assert (three.instructions_hash == one.instructions_hash, three.demos_hash == one.demos_hash) == (False, True)
    assert (four.instructions_hash == one.instructions_hash, four.demos_hash == one.demos_hash) == (True, False)
    assert four.demos == 1


def test_a_callable(lm: Any, captured: Any) -> None:
    """What is evaluated may be any callable; nothing is known of its instructions then."""
    with lmtrace.run("r") as run:
        evaluated(lambda question: dspy.Prediction(answer="a0"), 2)
    (candidate,) = run.candidates
    assert (candidate.score, candidate.calls, candidate.cost, candidate.instructions_hash) == (50.0, 0, None, None)


def test_a_failed_evaluation(lm: Any, captured: Any) -> None:
    """An evaluation with too many errors ends as it would, and is a candidate without a score, after all others."""

    def broken(example: Any, prediction: Any, trace: Any = None) -> bool:
        raise LookupError("the metric")

    with lmtrace.run("r") as run:
        with pytest.raises(Exception, match="cancelled"):
            evaluated(dspy.Predict("question -> answer"), 2, metric=broken, max_errors=1, num_threads=1)
        evaluated(dspy.Predict("question -> answer"), 1)
    assert [candidate.score is None for candidate in run.candidates] == [False, True]
    assert (run.candidates[1].error_type, run.candidates[1].failed) == ("Exception", 1)


def test_events(lm: Any, provider: LoopbackProvider, captured: Any) -> None:
    """Each example and the whole give an event of the conventions, at the span it is about."""
    answering(provider)
    evaluated(dspy.Predict("question -> answer"), 2)
    spans = {span["span_id"]: span["name"] for span in captured.spans}
    found = [event for event in captured.events if event["name"] == "gen_ai.evaluation.result"]
    told = sorted((spans[event["span_id"]], event["attributes"]) for event in found)
    assert told == [
        ("evaluate Predict", {"gen_ai.evaluation.name": "exact", "gen_ai.evaluation.score.value": 100.0}),
        *(
            (
                f"example {position}",
                {
                    "gen_ai.evaluation.name": "exact",
                    "gen_ai.evaluation.score.value": 1.0,
                    "gen_ai.evaluation.score.label": "pass",
                },
            )
            for position in range(2)
        ),
    ]


def test_feedback(lm: Any, captured: Any) -> None:
    """A score with feedback, as GEPA's metrics give, is its number; the feedback is content."""

    def metric(example: Any, prediction: Any, trace: Any = None) -> Any:
        return dspy.Prediction(score=0.25, feedback="too short")

    with lmtrace.run("r") as run:
        evaluated(dspy.Predict("question -> answer"), 1, metric=metric)
    assert run.candidates[0].scores == (0.25,)
    (row,) = [row for row in captured.span_rows if row["span_kind"] == "example"]
    assert row["outputs"]["score"] == {"score": 0.25, "feedback": "too short"}
    assert "too short" not in str(captured.events) + str(captured.spans)


def test_in_the_store(lm: Any, provider: LoopbackProvider, instrumented: None) -> None:
    """SQL has the candidates with what they cost, what they are, and each example with its score and answer."""
    answering(provider)
    program = dspy.Predict("question -> answer")
    with lmtrace.run("r") as run, dspy.context(adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)):
        evaluated(program)
    lmtrace.flush(5)
    (live,) = run.candidates
    with lmtrace.history() as history:
        (stored,) = history.arrow("FROM candidates").to_pylist()
        rows = history.arrow("FROM examples ORDER BY position").to_pylist()
    for name in (
        "program",
        "metric",
        "score",
        "examples",
        "failed",
        "calls",
        "errors",
        "input_tokens",
        "demos_hash",
        "demos",
    ):
        assert stored[name] == getattr(live, name), name
    assert stored["billed_cost"] == pytest.approx(live.cost)
    assert (stored["run_id"], stored["evaluation_id"]) == (run.id, live.id)
    assert "question" in json.loads(stored["predictors"])["self"]["instructions"]
    assert tuple(row["score"] for row in rows) == live.scores
    assert [row["error_type"] is not None for row in rows] == [False, False, False, True, False]
    assert json.loads(rows[1]["example"])["question"] == "q1"
    assert json.loads(rows[1]["prediction"]) == {"answer": "a1"}
    assert sum(row["billed_cost"] for row in rows) == pytest.approx(live.cost)


def test_an_optimiser(lm: Any, provider: LoopbackProvider, instrumented: None) -> None:
    """What an optimiser evaluates is numbered, and the one it returns is known."""
    answering(provider)
    optimiser = dspy.BootstrapFewShotWithRandomSearch(
        metric=exact, max_bootstrapped_demos=1, max_labeled_demos=1, num_candidate_programs=2, num_threads=4
    )
    with lmtrace.run("r") as run:
        best = optimiser.compile(dspy.Predict("question -> answer"), trainset=examples(3))
        evaluated(best, 2)
    found = run.candidates
    inside = [candidate for candidate in found if candidate.optimiser == "BootstrapFewShotWithRandomSearch"]
    assert sorted(candidate.number for candidate in inside) == list(range(1, len(inside) + 1))
    assert len(inside) == len(found) - 1 >= 4
    assert [candidate.score for candidate in found] == sorted((candidate.score for candidate in found), reverse=True)
    lmtrace.flush(5)
    with lmtrace.history() as history:
        chosen = history.fetch(
            "SELECT max(score), bool_and(score = best) FROM (SELECT *, max(score) OVER () AS best FROM candidates WHERE optimiser IS NOT NULL) WHERE chosen"
        ).rows
    assert chosen[0][1] is True


CHILD = """
import dspy
import lmtrace

lmtrace.instrument()
examples = [dspy.Example(question="q", answer="a").with_inputs("question")]
score = dspy.Evaluate(devset=examples, metric=lambda *_: True)
score(lambda question: dspy.Prediction(answer=question))
"""


def test_several_processes(instrumented: None, tmp_path: Path) -> None:
    """Candidates of all processes of a run are in its store; the object has those of its own process."""
    with lmtrace.run("r") as run:
        evaluated(lambda question: dspy.Prediction(answer="a0"), 2)
        environ = os.environ | {"LMTRACE_RUN_ID": run.id, "LMTRACE_RUN_NAME": "r"}
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", CHILD], check=True, env=environ, cwd=tmp_path, capture_output=True
        )
    lmtrace.flush(5)
    with lmtrace.history() as history:
        found = history.fetch("SELECT score FROM candidates WHERE run_id = ? ORDER BY timestamp", [run.id]).rows
    assert found == [(50.0,), (100.0,)]
    assert len(run.candidates) == 1


def test_without_content(lm: Any, provider: LoopbackProvider, instrumented: None) -> None:
    """With ``capture="metadata"`` a store has the scores, and nothing that was asked, answered or shown."""
    with capture(capture="metadata") as captured:
        answering(provider)
        evaluated(dspy.Predict("question -> answer"), 2)
    rows = [row for row in captured.span_rows if row["span_kind"] in ("example", "evaluate")]
    assert len(rows) == 3
    assert all("inputs" not in row and "outputs" not in row for row in rows)
    assert all(row["attributes"]["gen_ai.evaluation.score.value"] > 0 for row in rows)


def test_twins(lm: Any, captured: Any) -> None:
    """An example that is in the data twice is at both its places."""
    (one,) = examples(1)
    dspy.Evaluate(devset=[one, one, one], metric=exact, num_threads=3, display_progress=False)(
        dspy.Predict("question -> answer")
    )
    found = [
        row["attributes"]["lmtrace.example.position"] for row in captured.span_rows if row["span_kind"] == "example"
    ]
    assert sorted(found) == [0, 1, 2]


def test_two_at_once(lm: Any, captured: Any) -> None:
    """Evaluations in two threads of one run do not count each other's calls."""
    gate, begun = threading.Barrier(2), threading.Event()
    program = dspy.Predict("question -> answer")

    def metric(example: Any, prediction: Any, trace: Any = None) -> float:
        begun.set()
        gate.wait(60)
        return 1.0

    def evaluate() -> None:
        evaluated(program, 3, metric=metric, num_threads=1)

    def evaluate_later() -> None:  # two bars of tqdm that are made at the same moment may fail
        assert begun.wait(60)
        evaluate()

    async def main() -> None:
        await asyncio.gather(asyncio.to_thread(evaluate), asyncio.to_thread(evaluate_later))

    with lmtrace.run("r") as run:
        asyncio.run(main())
    assert [(candidate.calls, candidate.score) for candidate in run.candidates] == [(3, 100.0), (3, 100.0)]


def test_a_parallel_program(lm: Any, captured: Any) -> None:
    """What a program does in threads of its own while it is evaluated is no example, and is paid by its evaluation."""

    class Many(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = dspy.Predict("question -> answer")

        def forward(self, question: str) -> Any:
            inputs = [(self.one, dspy.Example(question=question).with_inputs("question")) for _ in range(3)]
            return dspy.Parallel(num_threads=3, disable_progress_bar=True)(inputs)[0]

    with lmtrace.run("r") as run:
        evaluated(Many(), 2)
    assert (run.candidates[0].calls, run.candidates[0].examples) == (6, 2)
    assert sum(row["span_kind"] == "example" for row in captured.span_rows) == 2
    assert len({row["example_id"] for row in captured.rows}) == 2


def test_on_the_terminal(lm: Any, provider: LoopbackProvider, instrumented: None) -> None:
    """`lmtrace candidates` ranks those of a run; ``RUN#N`` is one of them with its examples, the worst first."""
    answering(provider)
    good, bad = dspy.Predict("question -> answer"), dspy.Predict("question -> answer")
    bad.signature = bad.signature.with_instructions("Be wrong.")
    with lmtrace.run("r"):
        evaluated(bad, metric=lambda *_: 0.0, count=2)
        evaluated(good, metric=lambda example, *_: 0.5 + (example.question == "q0"), count=2)
    lmtrace.flush(5)
    table = CliRunner().invoke(cli, ["candidates"])
    assert table.exit_code == 0, table.output
    header, *lines = table.stdout.splitlines()
    assert header.split()[:3] == ["#", "score", "failed"]
    assert [line.split()[:2] for line in lines] == [["2", "100.00"], ["1", "0.00"]]
    told = [json.loads(line) for line in CliRunner().invoke(cli, ["candidates", "r", "--json"]).stdout.splitlines()]
    assert [(row["place"], row["score"], row["calls"]) for row in told] == [(2, 100.0, 2), (1, 0.0, 2)]
    one = CliRunner().invoke(cli, ["candidates", "r#2"]).stdout
    assert one.startswith("r#2 score 100\n")
    assert [line.split()[:2] for line in one.splitlines()[-2:]] == [["1", "0.5"], ["0", "1.5"]]
    assert "Be wrong." in CliRunner().invoke(cli, ["candidates", "r#1"]).stdout
    assert CliRunner().invoke(cli, ["candidates", "r#3"]).exit_code == 1
    assert "score 100" in CliRunner().invoke(cli, ["show", "r"]).stdout
