"""An evaluation of DSPy is a scored candidate: who it is, what each example of its data set came to, what that cost.

`dspy.Evaluate` makes its examples in the threads of an executor, and there each becomes a step of its own. That the executor
works for an evaluation is known from the data: it gets the very list the evaluation has. Calls carry the ids of both.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Self

from lmtrace import _scope
from lmtrace import _semconv as names
from lmtrace._candidates import EVALUATION_ID, Candidate, Evaluation
from lmtrace._failures import failures
from lmtrace._steps import Step
from lmtrace.integrations._patching import Function
from lmtrace.integrations.dspy._identity import identity_of, predictors_of
from lmtrace.integrations.dspy._plain import plain

_evaluating: ContextVar[Evaluating | None] = ContextVar("lmtrace.dspy.evaluating", default=None)
_compiling: ContextVar[Compiling | None] = ContextVar("lmtrace.dspy.compiling", default=None)
_scope.carry(_compiling)


class Compiling:
    """A compilation, around its step: what it evaluates meanwhile is numbered.

    Args:
        optimiser: What the optimiser is called.
        step: The step.
        data: The examples it optimises for.
    """

    def __init__(self, optimiser: str, step: Step, data: Sequence[Any] = ()) -> None:
        self.optimiser: Final = optimiser
        self.step: Final = step
        self.data: Final = data
        self.numbers: Final = itertools.count(1)
        self.around: Final = _compiling.get()
        """The compilation it is a part of."""
        self.scoring: Any = None
        """The evaluation that ends with it, of an optimiser that scores by itself."""
        self._token: Any = None

    def __enter__(self) -> Self:
        self.step.__enter__()
        self._token = _compiling.set(self)
        return self

    @functools.cached_property
    def positions(self) -> dict[int, int]:
        """Where each example is in the data, by its identity."""
        return {id(example): position for position, example in enumerate(self.data)}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.scoring is not None:
            self.scoring.close(error)
        _compiling.reset(self._token)
        self.step.__exit__(kind, error, traceback)


compiling: Final = _compiling.get
"""The compilation at work."""


class Evaluating:
    """An evaluation, around its step.

    Args:
        program: What is evaluated.
        metric: The name of what scores it.
        label: What the optimiser calls the evaluation.
        data: The examples.
    """

    def __init__(self, program: Any, metric: str, label: str | None, data: Sequence[Any]) -> None:
        self.data: Final = data
        self.metric: Final = metric
        self._known: dict[str, Any] = {"score": None, "scores": ()}
        predictors = predictors_of(program)
        self._about: Final = _about(program, label, len(data), identity_of(predictors))
        self.step: Final = Step(
            f"evaluate {type(program).__name__}",
            "evaluate",
            {names.EVALUATION_NAME: metric, **self._about},
            inputs=(lambda: {"predictors": predictors}) if predictors else None,
        )
        self.evaluation: Evaluation
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.step.__enter__()
        self.evaluation = Evaluation(_candidate(self.step.id, self.metric, self._about))
        run = _scope.current_run()
        if run is not None:
            run.evaluating(self.evaluation)
        self._stack.enter_context(_scope.detailed(**{EVALUATION_ID: self.step.id}))
        self._stack.callback(_evaluating.reset, _evaluating.set(self))
        return self

    def keep(self, result: Any) -> None:
        """Note the scores an evaluation returned."""
        results = getattr(result, "results", None)
        scores = _scores(results, self.evaluation) if isinstance(results, list) else ()
        self.settle(number_of(getattr(result, "score", result)), scores)

    def count(self, examples: int) -> None:
        """Say over how many examples it is, where that was not known at the start."""
        self.step.add({names.EVALUATION_EXAMPLES: examples})
        self._known["examples"] = examples

    def settle(self, score: float | None, scores: tuple[float | None, ...]) -> None:
        """Note the score of the whole and those of its examples."""
        self._known.update(score=score, scores=scores)
        if score is not None:
            self.step.note(lambda: {"score": score, "scores": list(scores)}, {names.EVALUATION_SCORE: score})
            self.step.tell(names.EVALUATION_EVENT, {names.EVALUATION_NAME: self.metric, names.EVALUATION_SCORE: score})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
        self.step.add({names.EVALUATION_FAILED: self.evaluation.failed})
        self.step.__exit__(kind, error, traceback)
        self.evaluation.end(
            **self._known,
            duration_ms=self.step.duration_ms,
            error_type=None if error is None else type(error).__qualname__,
        )


def _about(program: Any, label: str | None, examples: int, identity: dict[str, Any]) -> dict[str, Any]:
    attributes = {names.CANDIDATE_PROGRAM: type(program).__name__, names.EVALUATION_EXAMPLES: examples, **identity}
    if label is not None:
        attributes[names.CANDIDATE_LABEL] = label
    around = compiling()
    if around is not None:
        attributes[names.CANDIDATE_OPTIMISER] = around.optimiser
        attributes[names.CANDIDATE_COMPILATION] = around.step.id
        attributes[names.CANDIDATE_NUMBER] = next(around.numbers)
    return attributes


def _candidate(span_id: str, metric: str, about: dict[str, Any]) -> Candidate:
    return Candidate(
        id=span_id,
        metric=metric,
        program=about[names.CANDIDATE_PROGRAM],
        optimiser=about.get(names.CANDIDATE_OPTIMISER),
        number=about.get(names.CANDIDATE_NUMBER),
        label=about.get(names.CANDIDATE_LABEL),
        instructions_hash=about.get(names.CANDIDATE_INSTRUCTIONS),
        demos_hash=about.get(names.CANDIDATE_DEMOS_HASH),
        demos=about.get(names.CANDIDATE_DEMOS),
        examples=about[names.EVALUATION_EXAMPLES],
    )


def begin(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Evaluating:
    """Read what ``Evaluate.__call__`` was called with."""
    given = inspect.signature(type(owner).__call__).bind(owner, *args, **kwargs).arguments
    metric = given.get("metric") or owner.metric
    metadata = given.get("callback_metadata")
    label = metadata.get("metric_key") if isinstance(metadata, dict) else None
    data = given.get("devset")
    return Evaluating(
        given["program"],
        name_of(metric),
        label if isinstance(label, str) else None,
        owner.devset if data is None else data,
    )


def name_of(metric: Any) -> str:
    """What a metric is called."""
    return str(getattr(metric, "__name__", type(metric).__name__))


def _scores(results: list[Any], evaluation: Evaluation) -> tuple[float | None, ...]:
    return tuple(
        None if evaluation.has_failed(position) else number_of(result[2]) for position, result in enumerate(results)
    )


def number_of(score: Any) -> float | None:
    """A score as a number: itself, or that of a prediction that has one beside its feedback."""
    if score is None or isinstance(score, str):
        return None
    with suppress(Exception):  # whatever a metric returns; DSPy's predictions refuse if they have no score
        return float(score)
    return None


# --- examples ----------------------------------------------------------------------------------------------------------


def stepping(function: Function, data: Any) -> Function:
    """`function`, each call of which is a step if it makes the examples of an evaluation."""
    evaluating = _evaluating.get()
    if evaluating is None or data is not evaluating.data:
        return function
    positions = Positions(data)

    @functools.wraps(function, updated=())
    def one(example: Any) -> Any:
        with ExitStack() as stack:
            step = _begun(stack, evaluating, positions, example)
            result = function(example)
            if step is not None:
                step.keep(result)
            return result

    return one


class Positions:
    """Where each example is in the data, told by the object: an example that is there twice has two positions."""

    def __init__(self, data: Sequence[Any]) -> None:
        self._free: defaultdict[int, list[int]] = defaultdict(list)
        for position in reversed(range(len(data))):
            self._free[id(data[position])].append(position)
        self._lock = threading.Lock()

    def take(self, example: Any) -> int:
        """The position of an example that begins; one that DSPy tries again has its last one."""
        with self._lock:
            free = self._free[id(example)]
            return free.pop() if len(free) > 1 else free[0]


def _begun(stack: ExitStack, evaluating: Evaluating, positions: Positions, example: Any) -> ExampleStep | None:
    try:
        return stack.enter_context(ExampleStep(evaluating, positions.take(example), example))
    except Exception as error:
        failures.note("reading an example of DSPy", error)
        return None


class ExampleStep:
    """One example of an evaluation: the program's answer, and what the metric says of it.

    Args:
        evaluating: The evaluation.
        position: Where the example is in the data.
        example: The example.
        attempt: Which of the answers of this evaluation it is, where an example has several.
    """

    def __init__(self, evaluating: Evaluating, position: int, example: Any, attempt: int | None = None) -> None:
        self._number = position if attempt is None else attempt
        self.failure: BaseException | None = None
        """An error that the optimiser has caught."""
        self._metric = evaluating.metric
        self._evaluation = evaluating.evaluation
        attributes = {names.EXAMPLE_POSITION: position, names.EVALUATION_NAME: self._metric}
        self._step = Step(f"example {position}", "example", attributes, inputs=lambda: plain(example))
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._step.__enter__()
        self._stack.enter_context(_scope.detailed(example_id=self._step.id))
        return self

    def keep(self, result: Any) -> None:
        """Note the prediction and its score."""
        try:
            prediction, score = result
            self.note(prediction, score)
        except Exception as error:
            failures.note("reading an example of DSPy", error)

    def note(self, prediction: Any, score: Any) -> None:
        """Note an answer and what the metric returned for it."""
        told = prediction[0] if type(prediction) is tuple and prediction else prediction  # GEPA adds the trace
        number, feedback = number_of(score), getattr(score, "feedback", None)
        attributes: dict[str, Any] = {names.EVALUATION_NAME: self._metric}
        if number is not None:
            attributes[names.EVALUATION_SCORE] = number
        if type(score) is bool:
            attributes[names.EVALUATION_LABEL] = "pass" if score else "fail"
        explanation = {names.EVALUATION_EXPLANATION: feedback} if isinstance(feedback, str) else {}
        self._step.note(lambda: {"prediction": plain(told), "score": plain(score)}, attributes)
        self._step.tell(names.EVALUATION_EVENT, attributes, explanation)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
        error = error or self.failure
        if error is None:
            self._evaluation.scored(self._number)
        else:
            self._evaluation.missed(self._number)
            kind, traceback = type(error), error.__traceback__
            failed = {names.EVALUATION_NAME: self._metric, names.ERROR_TYPE: type(error).__qualname__}
            self._step.tell(names.EVALUATION_EVENT, failed)
        self._step.__exit__(kind, error, traceback)
