"""Optimisers that score programs without `dspy.Evaluate`: SIMBA and BootstrapFewShot."""

from __future__ import annotations

import json
from typing import Any

import dspy
import pytest
from click.testing import CliRunner

import lmtrace
from lmtrace._cli import cli
from lmtrace.testing import LoopbackProvider, ReceivedRequest


@pytest.fixture
def engine() -> dict[str, Any]:
    """Whichever this version prefers; what is scored does not depend on it."""
    return {}


def examples(count: int) -> list[Any]:
    return [
        dspy.Example(question=f"q{number}", answer=f"a{number % 2}").with_inputs("question") for number in range(count)
    ]


def answering(provider: LoopbackProvider) -> None:
    """Even questions are answered right; `q3` with something no adapter can read."""

    def reply(request: ReceivedRequest) -> str:
        messages = request.json["messages"]
        asked = json.dumps(messages[-1])
        if "module_advice" in json.dumps(messages[0]):
            return (
                '[[ ## discussion ## ]]\nso\n\n[[ ## module_advice ## ]]\n{"self": "Think."}\n\n[[ ## completed ## ]]'
            )
        return "no fields" if "q3" in asked else "[[ ## answer ## ]]\na0\n\n[[ ## completed ## ]]"

    provider.respond(reply)


def exact(example: Any, prediction: Any, trace: Any = None) -> bool:
    return bool(example.answer == prediction.answer)


@pytest.fixture
def strict() -> Any:
    """An adapter that does not ask again in another way."""
    with dspy.context(adapter=dspy.ChatAdapter(use_json_adapter_fallback=False)):
        yield


def in_order(run: Any) -> list[Any]:
    return sorted(run.candidates, key=lambda found: found.number)


class TestSIMBA:
    """Each program of a step of SIMBA is a candidate."""

    def compiled(self, lm: Any, threads: int = 4, metric: Any = exact) -> tuple[Any, Any]:
        pytest.importorskip("numpy")
        optimiser = dspy.SIMBA(metric=metric, bsize=4, num_candidates=2, max_steps=2, max_demos=2, num_threads=threads)
        with lmtrace.run("r") as run:
            best = optimiser.compile(dspy.Predict("question -> answer"), trainset=examples(6), seed=1)
        return run, best

    @pytest.mark.parametrize("threads", [1, 4])
    def test_candidates(self, lm: Any, provider: LoopbackProvider, captured: Any, strict: None, threads: int) -> None:
        """What it samples from, what it tries on a mini-batch, and what it tries on all: with scores, errors and calls."""
        answering(provider)
        run, best = self.compiled(lm, threads)
        found = in_order(run)
        assert {one.optimiser for one in found} == {"SIMBA"}
        assert [one.number for one in found] == list(range(1, len(found) + 1))
        assert {one.metric for one in found} == {"exact"}
        assert {one.label for one in found} == {"sampling", "eval_minibatch", "eval_full"}
        assert sum(one.examples for one in found if one.label == "sampling") == 2 * 2 * 4
        assert {one.examples for one in found if one.label == "eval_minibatch"} == {4}
        assert {one.examples for one in found if one.label == "eval_full"} == {6}
        for one in found:
            assert one.score == round(100 * sum(score or 0.0 for score in one.scores) / one.examples, 2)
            assert len(one.scores) == one.examples
            assert one.failed == one.scores.count(None)
            assert one.calls >= one.examples
            assert one.cost is not None
        assert any(one.failed for one in found)
        assert sum(one.calls for one in found) <= run.calls
        assert best.candidate_programs[0]["score"] * 100 == pytest.approx(
            max(one.score for one in found if one.label == "eval_full"), abs=0.01
        )

    def test_the_same_scores(self, lm: Any, provider: LoopbackProvider, captured: Any, strict: None) -> None:
        """Scores on mini-batches and on all are those that SIMBA has."""
        answering(provider)
        run, best = self.compiled(lm)
        full = sorted(one.score for one in run.candidates if one.label == "eval_full")
        assert full == sorted(round(100 * one["score"], 2) for one in best.candidate_programs)

    def test_places(self, lm: Any, provider: LoopbackProvider, captured: Any, strict: None) -> None:
        """Evaluations are below the compilation, examples below theirs, calls below those; positions are the trainset's."""
        answering(provider)
        self.compiled(lm)
        rows = {row["span_id"]: row for row in captured.span_rows}
        evaluations = [row for row in rows.values() if row["span_kind"] == "evaluate"]
        assert {rows[row["parent_span_id"]]["name"] for row in evaluations} == {"compile SIMBA"}
        steps = [row for row in rows.values() if row["span_kind"] == "example"]
        assert {rows[row["parent_span_id"]]["span_kind"] for row in steps} == {"evaluate"}
        for row in steps:
            assert row["inputs"]["question"] == f"q{row['attributes']['lmtrace.example.position']}"
        asked = [row for row in captured.rows if "example_id" in row]
        for row in asked:
            assert rows[row["example_id"]]["parent_span_id"] == row["evaluation_id"]
            assert rows[row["example_id"]]["inputs"]["question"] in json.dumps(row["messages"][-1])
        assert len(asked) == len(steps)
        assert len({span["trace_id"] for span in captured.spans}) == 1
        failed = [row for row in steps if row["inputs"]["question"] == "q3"]
        assert failed
        assert all(row["error_type"] == "AdapterParseError" for row in failed)

    def test_chosen(self, lm: Any, provider: LoopbackProvider, instrumented: None, strict: None) -> None:
        """The store knows which of them SIMBA returned, and the command shows them."""
        answering(provider)
        self.compiled(lm)
        lmtrace.flush(5)
        with lmtrace.history() as history:
            (row,) = history.fetch(
                "SELECT bool_or(chosen), bool_and(examples = 6) FILTER (label = 'eval_full') FROM candidates"
            ).rows
        assert row == (True, True)
        shown = CliRunner().invoke(cli, ["candidates", "r"])
        assert shown.exit_code == 0, shown.output
        assert "Predict · sampling" in shown.stdout

    def test_feedback(self, lm: Any, provider: LoopbackProvider, captured: Any, strict: None) -> None:
        """A metric that returns a prediction with feedback is read as in an evaluation."""
        answering(provider)
        run, _ = self.compiled(lm, metric=lambda *_: dspy.Prediction(score=0.25, feedback="too short"))
        assert {score for one in run.candidates for score in one.scores} <= {0.25, None}
        steps = [row for row in captured.span_rows if row["span_kind"] == "example" and "outputs" in row]
        assert {row["outputs"]["score"]["feedback"] for row in steps} == {"too short"}

    def test_an_error_that_ends_it(self, lm: Any, provider: LoopbackProvider, captured: Any, strict: None) -> None:
        """What nothing catches ends the compilation as it would, and what had begun is a candidate without a score."""

        def metric(*_: Any) -> float:
            raise KeyboardInterrupt

        answering(provider)
        with lmtrace.run("r") as run, pytest.raises(KeyboardInterrupt):
            dspy.SIMBA(metric=metric, bsize=2, num_candidates=2, max_steps=1, num_threads=1).compile(
                dspy.Predict("question -> answer"), trainset=examples(2)
            )
        assert [(one.score, one.error_type) for one in run.candidates] == [(None, "KeyboardInterrupt")]


class TestBootstrapFewShot:
    """The teacher of BootstrapFewShot is a candidate, with a score for each attempt."""

    def compiled(self, lm: Any, **options: Any) -> tuple[Any, Any]:
        count = options.pop("count", 5)
        given = {"metric": exact, "max_bootstrapped_demos": 3, "max_labeled_demos": 0} | options
        with lmtrace.run("r") as run:
            best = dspy.BootstrapFewShot(**given).compile(dspy.Predict("question -> answer"), trainset=examples(count))
        return run, best

    def test_a_candidate(self, lm: Any, provider: LoopbackProvider, captured: Any, strict: None) -> None:
        """Attempts until there are enough demos, with their scores, what failed, and what the calls took."""
        answering(provider)
        run, best = self.compiled(lm)
        (one,) = run.candidates
        assert (one.program, one.metric, one.optimiser, one.number) == ("Predict", "exact", "BootstrapFewShot", 1)
        assert (one.label, one.examples, one.failed, one.calls) == ("bootstrap", 5, 1, 5)
        assert (one.scores, one.score) == ((1.0, 0.0, 1.0, None, 1.0), 60.0)
        assert one.cost == pytest.approx(run.cost)
        assert len(best.demos) == 3
        rows = {row["span_id"]: row for row in captured.span_rows}
        (evaluation,) = [row for row in rows.values() if row["span_kind"] == "evaluate"]
        assert rows[evaluation["parent_span_id"]]["name"] == "compile BootstrapFewShot"
        assert evaluation["attributes"]["lmtrace.evaluation.examples"] == 5
        steps = [row for row in rows.values() if row["span_kind"] == "example"]
        assert [row["attributes"]["lmtrace.example.position"] for row in steps] == list(range(5))
        assert [row.get("error_type") for row in steps] == [None, None, None, "AdapterParseError", None]
        assert [row["example_id"] for row in captured.rows] == [row["span_id"] for row in steps]

    def test_rounds(self, lm: Any, provider: LoopbackProvider, captured: Any, strict: None) -> None:
        """An example that is tried again is scored again, at its place."""
        answering(provider)
        run, _ = self.compiled(lm, count=2, max_rounds=2)
        assert run.candidates[0].scores == (1.0, 0.0, 0.0)
        steps = [row for row in captured.span_rows if row["span_kind"] == "example"]
        assert [row["attributes"]["lmtrace.example.position"] for row in steps] == [0, 1, 1]

    def test_a_threshold(self, lm: Any, provider: LoopbackProvider, captured: Any, strict: None) -> None:
        """The score is what the metric returned, also where a threshold decides."""
        answering(provider)
        run, best = self.compiled(lm, count=2, metric=lambda *_: 0.25, metric_threshold=0.5)
        assert run.candidates[0].scores == (0.25, 0.25)
        assert best.demos == []

    def test_no_metric(self, lm: Any, provider: LoopbackProvider, captured: Any, strict: None) -> None:
        """Without a metric nothing is scored, and nothing is a candidate."""
        answering(provider)
        run, _ = self.compiled(lm, count=2, metric=None)
        assert run.candidates == ()

    def test_too_many_errors(self, lm: Any, provider: LoopbackProvider, captured: Any, strict: None) -> None:
        """An error that ends the compilation arrives unchanged; the candidate has no score then."""

        def metric(*_: Any) -> bool:
            raise LookupError("the metric")

        answering(provider)
        optimiser = dspy.BootstrapFewShot(metric=metric, max_errors=2)
        with lmtrace.run("r") as run, pytest.raises(LookupError, match="the metric"):
            optimiser.compile(dspy.Predict("question -> answer"), trainset=examples(4))
        (one,) = run.candidates
        assert (one.score, one.error_type, one.failed, one.examples) == (None, "LookupError", 2, 2)
        assert (optimiser.error_count, optimiser.metric) == (2, metric)

    def test_inside_of_another(self, lm: Any, provider: LoopbackProvider, captured: Any, strict: None) -> None:
        """How another optimiser, or a program, makes its demos is no candidate; its calls count for what is around."""
        answering(provider)
        optimiser = dspy.BootstrapFewShotWithRandomSearch(
            metric=exact, max_bootstrapped_demos=1, max_labeled_demos=1, num_candidate_programs=1, num_threads=2
        )

        class Program(dspy.Module):
            def forward(self, question: str) -> Any:
                few_shot = dspy.BootstrapFewShot(metric=exact, max_bootstrapped_demos=1)
                return few_shot.compile(dspy.Predict("question -> answer"), trainset=examples(1))(question=question)

        with lmtrace.run("r") as run:
            optimiser.compile(dspy.Predict("question -> answer"), trainset=examples(2))
            evaluate = dspy.Evaluate(devset=examples(2), metric=exact, num_threads=2, display_progress=False)
            evaluate(Program())
        assert {one.label for one in run.candidates} == {None}
        (nested,) = [one for one in run.candidates if one.program == "Program"]
        assert nested.calls == 4

    def test_uninstrumented(self, lm: Any, provider: LoopbackProvider, strict: None) -> None:
        """The same program comes out with and without `instrument()`."""
        answering(provider)
        _, without = self.compiled(lm)
        lmtrace.instrument()
        try:
            _, observed = self.compiled(lm)
        finally:
            lmtrace.uninstrument()
        assert observed.dump_state() == without.dump_state()
