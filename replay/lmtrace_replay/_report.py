"""Misses as a text for people: the first divergence whole, the others as a list, everything safe for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from lmtrace._visible import visible
from lmtrace_replay._miss import Difference, Miss, Nearest

LISTED = 10
"""Misses after the first that are listed; of the rest only the number is given."""

_WHY = {
    "no cassette": "nothing is recorded",
    "exhausted": "every recorded answer to this request has been served",
    "prompt": "the prompt differs from what was recorded",
    "parameters": "the parameters differ from what was recorded",
    "model": "the model differs from what was recorded",
    "rollout": "this request is recorded, but not for this rollout",
    "error": "the recording cannot be served",
    "order": "another request is next in the recorded order",
}


def report(misses: Sequence[Miss]) -> str:
    """The report of a session's misses, the first divergence first; equal ones are listed once."""
    counted = Counter(misses)
    first, *others = counted
    lines = [*_first(first, counted[first]), *_others(others, counted)]
    return visible("\n".join(lines))


def _first(miss: Miss, times: int) -> Iterator[str]:
    often = f" ({times} times)" if times > 1 else ""
    yield f"no recorded answer: {_WHY[miss.reason]}{often}"
    yield f"  asked     {miss.model_type} {miss.model}{_caller(miss)}"
    yield f"            {miss.asked}"
    yield f"  cassette  {_source(miss)}"
    if miss.nearest is not None:
        yield from _nearest(miss.nearest)
    if miss.cause:
        yield f"  cause     {miss.cause}"
    if miss.fix:
        yield f"  fix       {miss.fix}"
    yield f"  key       {miss.key}"


def _caller(miss: Miss | Nearest) -> str:
    """Who asked, as far as it says something: the first task of a program is no news."""
    task = f", task {miss.path}" if miss.path not in (None, _ROOT) else ""
    rollout = f", rollout {miss.rollout}" if miss.rollout else ""
    return (f" by {miss.scope}" if miss.scope else "") + task + rollout


_ROOT: Final = "0"


def _source(miss: Miss) -> str:
    number = "1 recording" if miss.recorded == 1 else f"{miss.recorded:,} recordings"
    return f"{miss.where or 'recordings in memory'}, {number}"


def _nearest(near: Nearest) -> Iterator[str]:
    yield f"  nearest   recording {near.number}, {near.model}{_caller(near)}"
    yield f"            {near.asked}"
    for difference in near.differences:
        yield f"    {_difference(difference)}"
    if near.message is not None:
        yield f"    message {near.message} ({near.role}) differs, [-recorded-]{{+asked+}}:"
        yield from (f"      {line}" for line in near.diff.split("\n"))


def _difference(difference: Difference) -> str:
    if difference.recorded is None:
        return f"{difference.name}: not recorded, asked {difference.asked}"
    if difference.asked is None:
        return f"{difference.name}: recorded {difference.recorded}, not asked"
    return f"{difference.name}: recorded {difference.recorded}, asked {difference.asked}"


def _others(others: Sequence[Miss], counted: Counter[Miss]) -> Iterator[str]:
    if not others:
        return
    yield f"  then {len(others):,} more:"
    for miss in others[:LISTED]:
        often = f" ({counted[miss]} times)" if counted[miss] > 1 else ""
        yield f"    {miss.reason}: {miss.model}{_caller(miss)}: {miss.asked}{often}"
    if len(others) > LISTED:
        yield f"    … and {len(others) - LISTED:,} others"
