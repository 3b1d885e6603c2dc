"""From a request that no recording answers to the `Miss` that says why."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from lmtrace._data import LMRequest
from lmtrace._redactor import Redactor
from lmtrace_replay._cause import cause_of
from lmtrace_replay._miss import Difference, Miss, Nearest, Reason
from lmtrace_replay._nearest import first_difference, nearest
from lmtrace_replay._texts import compact, messages_of, one_line, parameters_of
from lmtrace_replay._words import word_diff

if TYPE_CHECKING:
    from lmtrace_replay._recording import Normaliser, Recording


def explain(
    request: LMRequest,
    recordings: Sequence[Recording],
    *,
    key: str,
    where: str | None = None,
    path: str | None = None,
    scope: str | None = None,
    reason: Reason | None = None,
    fix: str | None = None,
    normalisers: Sequence[Normaliser] = (),
    among: Sequence[int] | None = None,
    thorough: bool = True,
) -> Miss:
    """Say why none of `recordings` answers `request`.

    Args:
        request: What was asked.
        recordings: Everything there was to answer from, whether served already or not.
        key: The key of the request.
        where: Where the recordings come from.
        path: The logical path of the task that asked.
        scope: The module path that asked.
        reason: Why, where the caller knows; found out otherwise.
        fix: The command that helps, where the caller knows a better one.
        normalisers: What keys are made with.
        among: Positions in `recordings` to compare with; all by default.
        thorough: Whether all of many recordings are searched for the nearest; else those of the same place and some more.
    """
    redactor = Redactor()
    here = [i for i, recording in enumerate(recordings) if _is_of_place(recording, path, scope)]
    if among is None:
        among = range(len(recordings)) if thorough else [*here[:SOME], *range(min(SOME, len(recordings)))]
    order = nearest(request, recordings, among, frozenset(here))
    same = [i for i in order if recordings[i].key_when_asked(normalisers) == key]
    best = _best(same, request, recordings) if same else order[0] if order else None
    near = None if best is None else _nearest(best, request, recordings[best], redactor, equal=best in same)
    found = reason or _reason(request, near, equal=bool(same))
    return Miss(
        reason=found,
        key=key,
        model=request.model,
        model_type=request.model_type,
        asked=redactor.text(_end_of(request), {}),
        rollout=_rollout(request),
        where=where,
        recorded=len(recordings),
        scope=scope,
        path=path,
        nearest=near,
        cause=None if best is None or best in same else _cause(found, request, recordings[best]),
        fix=fix or how_to_fix(found, where),
    )


SOME: Final = 100
"""Recordings of each kind that a search which is not thorough looks at."""


def _is_of_place(recording: Recording, path: str | None, scope: str | None) -> bool:
    """Whether a recording was made by the same task, or by the same module where tasks are not known."""
    if path is not None and recording.path is not None:
        return recording.path == path
    return scope is not None and recording.scope == scope


def _best(same: Sequence[int], request: LMRequest, recordings: Sequence[Recording]) -> int:
    """Of recordings of the very request, one of the same rollout if there is one."""
    return next((i for i in same if _rollout(recordings[i].request) == _rollout(request)), same[0])


def _rollout(request: LMRequest) -> str | None:
    rollout = request.rollout_id
    return None if rollout is None else compact(rollout)


def _end_of(request: LMRequest) -> str:
    messages = messages_of(request)
    return one_line(messages[-1].text) if messages else ""


def _nearest(index: int, request: LMRequest, recording: Recording, redactor: Redactor, *, equal: bool) -> Nearest:
    old, new = messages_of(recording.request), messages_of(request)
    at = None if equal else first_difference(old, new)
    return Nearest(
        number=index + 1,
        model=recording.request.model,
        asked=redactor.text(_end_of(recording.request), {}),
        scope=recording.scope,
        path=recording.path,
        rollout=_rollout(recording.request),
        differences=tuple(_differences(recording.request, request, redactor, equal=equal)),
        message=None if at is None else at + 1,
        role=None if at is None else (new[at] if at < len(new) else old[at]).role,
        diff="" if at is None else redactor.text(word_diff(_text(old, at), _text(new, at)), {}),
    )


def _text(messages: Sequence[Any], at: int) -> str:
    return str(messages[at].text) if at < len(messages) else ""


def _differences(old: LMRequest, new: LMRequest, redactor: Redactor, *, equal: bool) -> list[Difference]:
    """The model, rollout and parameters that differ."""
    before, after = (_fields(old, equal=equal), _fields(new, equal=equal))
    return [
        Difference(
            name=name,
            recorded=_short(before[name], redactor) if name in before else None,
            asked=_short(after[name], redactor) if name in after else None,
        )
        for name in sorted(before.keys() | after.keys(), key=lambda name: (name not in _FIRST, name))
        if before.get(name) != after.get(name)
    ]


_FIRST = ("model", "model_type", "rollout_id")


def _fields(request: LMRequest, *, equal: bool) -> dict[str, Any]:
    rollout = {} if request.rollout_id is None else {"rollout_id": compact(request.rollout_id)}
    if equal:
        return rollout
    return {"model": request.model, "model_type": request.model_type, **rollout, **parameters_of(request)}


def _short(value: Any, redactor: Redactor) -> str:
    return redactor.text(one_line(compact(value)), {})


def _reason(request: LMRequest, near: Nearest | None, *, equal: bool) -> Reason:
    if near is None:
        return "no cassette"
    if equal:
        return "exhausted" if near.rollout == _rollout(request) else "rollout"
    if near.message is not None:
        return "prompt"
    return "model" if near.model != request.model else "parameters"


def _cause(reason: Reason, request: LMRequest, recording: Recording) -> str | None:
    return cause_of(messages_of(recording.request), messages_of(request)) if reason in ("prompt", "order") else None


def how_to_fix(reason: Reason, where: str | None) -> str:
    """The command that records what is missing: pytest's while it runs a test, else the context manager's mode."""
    mode = "record-missing" if reason in ("no cassette", "exhausted", "rollout") else "rewrite"
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
    if test:
        return f"pytest {_quoted(test)} --lmtrace-mode={mode}"
    return f"lmtrace.replay({where or 'CASSETTE'!r}, mode={mode!r})"


def _quoted(test: str) -> str:
    import shlex

    return shlex.quote(test)
