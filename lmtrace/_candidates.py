"""The scored candidates of a run: what each evaluation of a program scored, and what the calls made for it cost.

An evaluation counts for the run it began in, on whichever thread its examples run. The store has the same of all processes,
as the views `candidates` and `examples`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from lmtrace._entry import HistoryEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One evaluation of a program."""

    id: str
    """`evaluation_id` in the store: the id of the evaluation's span."""
    program: str
    """What was evaluated, as its class is called."""
    metric: str | None = None
    optimiser: str | None = None
    """The optimiser that evaluated it, or None outside of `compile`."""
    number: int | None = None
    """The how manieth evaluation of that `compile` it is, from 1."""
    label: str | None = None
    """What the optimiser calls the evaluation, such as ``eval_full`` or ``eval_minibatch``, or does with it: ``sampling``, ``bootstrap``."""
    instructions_hash: str | None = None
    """The same for candidates whose predictors have the same instructions and fields."""
    demos_hash: str | None = None
    """The same for candidates whose predictors have the same few-shot examples."""
    demos: int | None = None
    """Few-shot examples of all predictors together."""
    score: float | None = None
    """As the evaluation returned it, with DSPy a percentage, also of an optimiser that means fractions; None when it failed as a whole."""
    examples: int = 0
    failed: int = 0
    """Examples on which the program or the metric raised an error."""
    scores: tuple[float | None, ...] = ()
    """What the metric gave each example, in their order; None for one that failed or is not a number."""
    error_type: str | None = None
    """What ended the evaluation."""
    duration_ms: float = 0.0
    calls: int = 0
    """LM calls made for it, failed ones included."""
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    """US dollars billed for its calls, or None while no price is known for any of them."""


@dataclass(slots=True)
class Spending:
    """What calls took together; whoever adds to it holds a lock."""

    calls: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    """US dollars billed so far, or None while no price is known for any call."""

    def add(self, entry: HistoryEntry) -> None:
        """Count a finished call."""
        usage, billed = entry.normalized_usage, entry.billed_cost
        self.calls += 1
        self.errors += entry.error is not None
        if usage is not None and entry.served_by == "provider":
            self.input_tokens += usage.input_tokens or 0
            self.output_tokens += usage.output_tokens or 0
        if billed is not None:
            self.cost = (self.cost or 0.0) + billed


class Evaluation:
    """An evaluation in progress.

    Args:
        about: What is known of it at the start.
    """

    def __init__(self, about: Candidate) -> None:
        self.is_over = False
        self.spending = Spending()
        self._about = about
        self._outcomes: dict[int, bool] = {}

    @property
    def id(self) -> str:
        """That of its candidate."""
        return self._about.id

    @property
    def failed(self) -> int:
        """Examples without a score so far."""
        return list(self._outcomes.values()).count(False)

    def scored(self, position: int) -> None:
        """An example came to a score."""
        self._outcomes[position] = True

    def missed(self, position: int) -> None:
        """An example failed; one that was tried twice counts as scored if either try was."""
        self._outcomes.setdefault(position, False)

    def has_failed(self, position: int) -> bool:
        """Whether an example came to no score."""
        return self._outcomes.get(position) is False

    def end(self, **known: Any) -> None:
        """It is over: `score`, `scores`, `duration_ms` and `error_type` of the candidate are known."""
        self._about = replace(self._about, **known)
        self.is_over = True

    def freeze(self) -> Candidate:
        """What is known now."""
        spent = self.spending
        return replace(
            self._about,
            failed=self.failed,
            calls=spent.calls,
            errors=spent.errors,
            input_tokens=spent.input_tokens,
            output_tokens=spent.output_tokens,
            cost=spent.cost,
        )


EVALUATION_ID: Final = "evaluation_id"
"""The column of a call, and the detail of its context, that says for which evaluation it was made."""


class Candidates:
    """The evaluations of one run, and what is spent on them."""

    def __init__(self) -> None:
        self._evaluations: dict[str, Evaluation] = {}
        self._lock = threading.RLock()  # a finaliser that records a dropped stream may interrupt `note`

    def begin(self, evaluation: Evaluation) -> None:
        """Count calls for `evaluation` from now on."""
        with self._lock:
            self._evaluations[evaluation.id] = evaluation

    def note(self, entry: HistoryEntry) -> None:
        """Count a finished call for the evaluation it was made for, if any."""
        evaluation = _of(entry.details, self._evaluations)
        if evaluation is not None:
            with self._lock:
                evaluation.spending.add(entry)

    def finished(self) -> tuple[Candidate, ...]:
        """Those that are over, the best first; those without a score last."""
        with self._lock:
            found = [evaluation.freeze() for evaluation in self._evaluations.values() if evaluation.is_over]
        return tuple(sorted(found, key=lambda one: rank(one.score)))


def rank(score: float | None) -> tuple[bool, float]:
    """What candidates are sorted by: the best score first, none last."""
    return score is None, -(score or 0.0)


def _of(details: Mapping[str, str], evaluations: Mapping[str, Evaluation]) -> Evaluation | None:
    found = details.get(EVALUATION_ID) if evaluations else None
    return evaluations.get(found) if found is not None else None
