"""What BootstrapFewShot scores: its teacher, asked for demos example by example until it has enough of them.

That is a candidate of a `compile` of BootstrapFewShot itself: the teacher, with a score for each attempt. Inside of another
optimiser it is only how that one makes its demos. Without a metric nothing is scored. There is no public place where both an
attempt's program and its metric run, so the method of an attempt is wrapped.
"""

from __future__ import annotations

import functools
import sys
from typing import Any, Final

from lmtrace import _scope
from lmtrace._candidates import EVALUATION_ID
from lmtrace._failures import failures
from lmtrace.integrations._patching import Function, Switch
from lmtrace.integrations.dspy._evaluations import Compiling, Evaluating, compiling, name_of
from lmtrace.integrations.dspy._scoring import Scoring, Trial

_LABEL: Final = "bootstrap"


def wrap_attempt(original: Function, switch: Switch) -> Function:
    """A wrapper of ``BootstrapFewShot._bootstrap_one_example``."""

    @functools.wraps(original)
    def wrapper(self: Any, example: Any, *args: Any, **kwargs: Any) -> Any:
        scoring = _scoring(self) if switch.is_on else None
        if scoring is None:
            return original(self, example, *args, **kwargs)
        with scoring.example(example) as trial:
            return original(self if trial is None else Seen(self, trial), example, *args, **kwargs)

    return wrapper


def _scoring(optimiser: Any) -> Scoring | None:
    """The evaluation an attempt belongs to; that of a compilation begins with its first attempt and ends with it."""
    around = compiling()
    if around is None or optimiser.metric is None or _is_part(around):
        return None
    try:
        if around.scoring is None:
            evaluating = Evaluating(optimiser.teacher, name_of(optimiser.metric), _LABEL, ())
            around.scoring = Scoring(evaluating, around.positions)
    except Exception as error:
        failures.note("reading what is bootstrapped", error)
        return None
    found: Scoring | None = around.scoring
    return found


def _is_part(compilation: Compiling) -> bool:
    """Whether it is how another optimiser makes demos, or how a program does, as that of KNNFewShot."""
    place = _scope.place()
    return compilation.around is not None or bool(place.modules) or EVALUATION_ID in place.details


class Seen:
    """An optimiser as its own method sees it during one attempt: the same, but its metric and its errors are noticed."""

    def __init__(self, optimiser: Any, trial: Trial) -> None:
        vars(self).update(_optimiser=optimiser, _trial=trial, _around=sys.exc_info()[1])

    @property
    def metric(self) -> Any:
        """The metric, which tells the trial what it returns."""
        told = self._trial.metric(self._optimiser.metric)
        return functools.wraps(self._optimiser.metric, updated=())(told)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_optimiser"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and error is not vars(self)["_around"]:  # it counts its errors while it handles them
            vars(self)["_trial"].failed(error)
        setattr(vars(self)["_optimiser"], name, value)
