"""Optimises a program of two predictors and evaluates it, under a session: OPTIMISER CACHE MODE CASSETTE RESULTS ADDRESS."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import dspy  # noqa: E402 - it warns of itself

import lmtrace  # noqa: E402
from lmtrace_replay._sockets import SocketGuard  # noqa: E402

THREADS = 8


class Program(dspy.Module):
    """Thinks first, then answers."""

    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.Predict("question -> thought")
        self.reply = dspy.ChainOfThought("question, thought -> answer")

    def forward(self, question: str) -> Any:
        thought = self.think(question=question).thought
        return self.reply(question=question, thought=thought)


def metric(example: Any, prediction: Any, *_: Any) -> float:
    """Whether the answer is the expected one, which chance decides."""
    return float(prediction.answer == example.answer)


def feedback(example: Any, prediction: Any, *rest: Any) -> Any:
    """The metric with advice, as GEPA wants it."""
    score = metric(example, prediction)
    return dspy.Prediction(score=score, feedback="Good." if score else f"It should be {example.answer}.")


def examples(count: int, first: int = 0) -> list[Any]:
    """Questions nobody can answer."""
    return [
        dspy.Example(question=f"Is {number} odd?", answer="yes" if number % 2 else "no").with_inputs("question")
        for number in range(first, first + count)
    ]


def random_search(lm: Any) -> Any:
    optimiser = dspy.BootstrapFewShotWithRandomSearch(
        metric=metric, num_candidate_programs=3, max_bootstrapped_demos=2, max_labeled_demos=2, num_threads=THREADS
    )
    return optimiser.compile(Program(), trainset=examples(10))


def mipro(lm: Any) -> Any:
    optimiser = dspy.MIPROv2(metric=metric, auto="light", num_threads=THREADS, prompt_model=lm, task_model=lm, seed=3)
    given: dict[str, Any] = {"requires_permission_to_run": False} if dspy.__version__ < "3.1" else {}
    return optimiser.compile(Program(), trainset=examples(8), valset=examples(8, 50), **given)


def simba(lm: Any) -> Any:
    optimiser = dspy.SIMBA(metric=metric, bsize=6, num_candidates=3, max_steps=2, num_threads=THREADS)
    return optimiser.compile(Program(), trainset=examples(12), seed=3)


def gepa(lm: Any) -> Any:
    optimiser = dspy.GEPA(metric=feedback, max_metric_calls=60, reflection_lm=lm, num_threads=THREADS, seed=3)
    return optimiser.compile(Program(), trainset=examples(8), valset=examples(8, 50))


def best_of_n(lm: Any) -> Any:
    return dspy.BestOfN(
        module=Program(), N=3, reward_fn=lambda _, prediction: float(prediction.answer == "yes"), threshold=1.0
    )


OPTIMISERS: dict[str, Callable[[Any], Any]] = {
    one.__name__: one for one in (random_search, mipro, simba, gepa, best_of_n)
}


def run(name: str, lm: Any) -> dict[str, Any]:
    """The optimised program's state, and what it answers."""
    with dspy.context(lm=lm):
        program = OPTIMISERS[name](lm)
        evaluate = dspy.Evaluate(devset=examples(16, 100), metric=metric, num_threads=THREADS, display_progress=False)
        result = evaluate(program)
    answers = [(prediction.toDict(), score) for _, prediction, score in result.results]
    return {"state": program.dump_state(), "score": result.score, "answers": answers}


def main(*arguments: str) -> None:
    name, cache, mode, cassette, results, address = arguments
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    lm = dspy.LM(
        "openai/gpt-4o-mini",
        api_key="sk-loopback-0123456789",
        api_base=address,
        cache=cache == "cache",
        temperature=1.0,
        max_tokens=2000,
    )
    guard: Any = SocketGuard() if mode == "replay" else nullcontext()
    began = time.perf_counter()
    with guard, lmtrace.replay(cassette, mode=mode) as session:  # type: ignore[call-overload]
        outcome = run(name, lm)
    outcome |= {"seconds": time.perf_counter() - began, "calls": len(session.calls)}
    Path(results).write_text(json.dumps(outcome, sort_keys=True, default=str), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
