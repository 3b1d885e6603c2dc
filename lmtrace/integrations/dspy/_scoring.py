"""An evaluation that no `dspy.Evaluate` makes: an optimiser asks a program and a metric by itself, in whichever thread.

It has a context of its own, in which its step is open from the first example on, so that examples of several evaluations may
take turns in the threads of one pool. Its score is what `dspy.Evaluate` would make of the same: the mean in percent, an
example that failed counting as 0.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from opentelemetry import context

from lmtrace._failures import failures
from lmtrace._scope import Carried
from lmtrace.integrations.dspy._evaluations import Evaluating, ExampleStep, number_of


class Scoring:
    """An evaluation in progress.

    Args:
        evaluating: What it is.
        positions: Where each example is in the data of the optimiser, by its identity.
        expected: How many examples there are going to be, if that is known; it ends with the last.
    """

    def __init__(self, evaluating: Evaluating, positions: dict[int, int], expected: int | None = None) -> None:
        self._evaluating = evaluating
        self._positions = positions
        self._expected = expected
        self._context = contextvars.copy_context()
        self._inside: tuple[Any, Carried] | None = None
        self._scores: dict[int, float | None] = {}
        self._begun = 0
        self._is_over = False
        self._lock = threading.RLock()  # a finaliser may interrupt

    @contextmanager
    def example(self, example: Any, number: int | None = None) -> Iterator[Trial | None]:
        """Around one answer of the program and its score.

        Args:
            example: The example.
            number: Which of the answers it is; the next one unless given.
        """
        trial = None
        try:
            with ExitStack() as stack:
                try:
                    trial = self._begin(stack, example, number)
                except Exception as error:
                    failures.note("reading an example of DSPy", error)
                yield trial
        finally:
            if trial is not None:
                self._end(trial)

    def _begin(self, stack: ExitStack, example: Any, number: int | None) -> Trial:
        with self._lock:
            if self._inside is None:
                self._inside = self._context.run(self._open)
            self._begun += 1
            number = self._begun - 1 if number is None else number
        here, carried = self._inside
        stack.callback(context.detach, context.attach(here))
        stack.enter_context(carried.entered())
        position = self._positions.get(id(example), number)
        return Trial(stack.enter_context(ExampleStep(self._evaluating, position, example, number)), number)

    def _open(self) -> tuple[Any, Carried]:
        self._evaluating.__enter__()
        return context.get_current(), Carried()

    def _end(self, trial: Trial) -> None:
        with self._lock:
            if trial.score is not None or trial.number not in self._scores:  # one that is tried twice is not two
                self._scores[trial.number] = trial.score
        if len(self._scores) == self._expected:
            self.close()

    def close(self, error: BaseException | None = None) -> None:
        """It is over; with an error, if that ended it before all examples were made."""
        with self._lock:
            if self._inside is None or self._is_over:
                return
            self._is_over = True
            try:
                self._context.run(self._settle, error)
            except Exception as failure:
                failures.note("reading an evaluation of DSPy", failure)

    def _settle(self, error: BaseException | None) -> None:
        scores = tuple(score for _, score in sorted(self._scores.items()))
        mean = sum(score or 0.0 for score in scores) / len(scores) if scores and error is None else None
        self._evaluating.count(len(scores))
        self._evaluating.settle(None if mean is None else round(100 * mean, 2), scores)
        if error is None:
            self._evaluating.__exit__(None, None, None)
        else:
            self._evaluating.__exit__(type(error), error, error.__traceback__)


class Trial:
    """One answer of a program and what the metric says of it, as the functions that were asked tell."""

    def __init__(self, step: ExampleStep, number: int) -> None:
        self.number = number
        self.score: float | None = None
        self._step = step

    def program(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A program that tells of its errors here."""

        def told(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                self.failed(error)
                raise

        return told

    def metric(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A metric that tells here what it was given and what it returned."""

        def told(example: Any, prediction: Any, *args: Any, **kwargs: Any) -> Any:
            output = self.program(function)(example, prediction, *args, **kwargs)
            if self._step.failure is None:
                self.score = number_of(output)
                self._step.keep((prediction, output))
            return output

        return told

    def failed(self, error: BaseException) -> None:
        """The program or the metric raised an error, which the optimiser has caught."""
        self._step.failure = self._step.failure or error
