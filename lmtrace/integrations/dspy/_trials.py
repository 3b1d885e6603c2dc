"""What SIMBA scores: programs on examples in `dspy.Parallel`, where each pair is a function of its own and an example.

Each program of such a step is a candidate. When SIMBA samples trajectories it takes a copy of a program of its pool for each
example, with an LM at temperature 1; copies that ask the same are one candidate there, whose examples may come several times.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from types import TracebackType
from typing import Any, Final, Self

from lmtrace._failures import failures
from lmtrace.integrations._patching import Function, Switch
from lmtrace.integrations.dspy._evaluations import Evaluating, compiling, name_of
from lmtrace.integrations.dspy._identity import identity_of, predictors_of
from lmtrace.integrations.dspy._scoring import Scoring

_SAMPLING: Final = "sampling"
_MINIBATCH: Final = "eval_minibatch"
_FULL: Final = "eval_full"


class Scored:
    """A program and the metric that scores it, as SIMBA runs them: a function of an example."""

    def __init__(self, program: Any, metric: Any, wrap: Callable[[Any, Any], Function]) -> None:
        self.program: Final = program
        self.metric: Final = metric
        self.wrap: Final = wrap

    def __call__(self, example: Any) -> Any:
        return self.wrap(self.program, self.metric)(example)


def wrap_trial(original: Function, switch: Switch) -> Function:
    """A wrapper of ``simba.wrap_program``."""

    @functools.wraps(original)
    def wrapper(program: Any, metric: Any) -> Any:
        return Scored(program, metric, original) if switch.is_on else original(program, metric)

    return wrapper


class Trials:
    """Pairs that a pool is going to run, each with the candidate it is of; as a context manager, around their running."""

    def __init__(self, pairs: Sequence[tuple[Scored, Any]]) -> None:
        self._of: dict[int, tuple[Scoring, int]] = {}
        self._scorings = [self._scoring(group, label) for group, label in _groups(pairs)]

    def _scoring(self, pairs: list[tuple[Scored, Any]], label: str) -> Scoring:
        scored, around = pairs[0][0], compiling()
        examples = [example for _, example in pairs]
        evaluating = Evaluating(scored.program, name_of(scored.metric), label, examples)
        made = Scoring(evaluating, around.positions if around is not None else {}, len(pairs))
        self._of |= {id(pair): (made, number) for number, pair in enumerate(pairs)}
        return made

    def stepping(self, function: Function) -> Function:
        """`function`, each call of which is a step."""

        @functools.wraps(function, updated=())
        def one(pair: Any) -> Any:
            scored, example = pair
            scoring, number = self._of[id(pair)]
            with scoring.example(example, number) as trial:
                if trial is None:
                    return function(pair)
                return function((scored.wrap(trial.program(scored.program), trial.metric(scored.metric)), example))

        return one

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for scoring in self._scorings:
            scoring.close(error)


def of(data: Any) -> Trials | None:
    """What a pool is given, if that is SIMBA's."""
    try:
        return Trials(data) if type(data) is list and data and all(map(_is_scored, data)) else None
    except Exception as error:
        failures.note("reading what SIMBA scores", error)
        return None


def _is_scored(pair: Any) -> bool:
    return type(pair) is tuple and len(pair) == 2 and type(pair[0]) is Scored


def _groups(pairs: Sequence[tuple[Scored, Any]]) -> list[tuple[list[tuple[Scored, Any]], str]]:
    """The pairs of each candidate, and what SIMBA does with them."""
    by_program = _grouped(pairs, lambda scored: id(scored.program))
    if len(by_program) == len(pairs):
        return [(group, _SAMPLING) for group in _grouped(pairs, _identity)]
    around = compiling()
    return [(group, _FULL if around and len(group) == len(around.data) else _MINIBATCH) for group in by_program]


def _identity(scored: Scored) -> Hashable:
    return tuple(identity_of(predictors_of(scored.program)).values())


def _grouped(pairs: Sequence[tuple[Scored, Any]], key: Callable[[Scored], Hashable]) -> list[list[tuple[Scored, Any]]]:
    found: dict[Hashable, list[tuple[Scored, Any]]] = {}
    for pair in pairs:
        found.setdefault(key(pair[0]), []).append(pair)
    return list(found.values())
