"""Whether a live answer still is what was recorded: the same, another wording of it, or something else.

The comparison is of structure, because models never say the same twice: which kinds of parts there are, which tools are
called with which arguments, which fields a JSON text has, how the answer ended. Wording is not judged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lmtrace._data import LMOutput, LMRequest, LMResponse, LMToolCallPart
from lmtrace_replay._recording import Recording

Outcome = Literal["identical", "benign", "regression"]
"""The same answer; one of the same structure; or one that code written for the recorded answer may not understand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What asking again brought."""

    outcome: Outcome
    request: LMRequest
    recorded: Recording
    answered: LMResponse | None = None
    """The live answer; None where the provider failed."""
    differences: Sequence[str] = ()
    """What differs in structure, in words."""


def compared(recorded: Recording, answered: LMResponse | Exception, request: LMRequest) -> Verdict:
    """The verdict on a live answer, or on the error that came instead."""
    if isinstance(answered, Exception):
        return _failed(recorded, answered, request)
    if recorded.response is None or recorded.error is not None:
        differences = [f"recorded was {recorded.error.type if recorded.error else 'nothing'}, now there is an answer"]
    else:
        differences = list(_differences(recorded.response.outputs, answered.outputs))
    is_same = recorded.response is not None and _plain(recorded.response) == _plain(answered)
    outcome: Outcome = "regression" if differences else "identical" if is_same else "benign"
    return Verdict(
        outcome=outcome, request=request, recorded=recorded, answered=answered, differences=tuple(differences)
    )


def _failed(recorded: Recording, error: Exception, request: LMRequest) -> Verdict:
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    is_same = recorded.error is not None and recorded.error.type.rpartition(".")[2] == type(error).__qualname__
    outcome: Outcome = "identical" if is_same else "regression"
    differences = () if is_same else (f"the provider failed with {kind}",)
    return Verdict(outcome=outcome, request=request, recorded=recorded, differences=differences)


def _plain(response: LMResponse) -> list[Any]:
    """What the caller of a model reads; ids and provider's notes change with every call."""
    return [
        (output.text, output.reasoning, output.finish_reason, [(call.name, call.arguments) for call in _calls(output)])
        for output in response.outputs
    ]


def _calls(output: LMOutput) -> list[LMToolCallPart]:
    return [part for part in output.parts if isinstance(part, LMToolCallPart)]


def _differences(before: Sequence[LMOutput], now: Sequence[LMOutput]) -> Iterator[str]:
    if len(before) != len(now):
        yield f"{len(before)} candidates were recorded, {len(now)} came"
    for number, (old, new) in enumerate(zip(before, now, strict=False), 1):
        where = f"candidate {number}: " if len(before) > 1 else ""
        yield from (where + difference for difference in _of_output(old, new))


def _of_output(old: LMOutput, new: LMOutput) -> Iterator[str]:
    if old.finish_reason != new.finish_reason:
        yield f"it ended with {new.finish_reason!r}, recorded was {old.finish_reason!r}"
    for kind in ("text", "refusal", "tool_call", "image", "audio"):
        was, is_now = any(old.of_type(kind)), any(new.of_type(kind))
        if was != is_now:
            yield f"there is {'no ' if was else 'a '}{kind.replace('_', ' ')} now"
    if bool(old.text) != bool(new.text) and any(new.of_type("text")):
        yield "the text is empty now" if old.text else "there is text now"
    yield from _of_calls(_calls(old), _calls(new))
    before = _shape(_parsed(old.text))
    if isinstance(_parsed(old.text), (dict, list)) and before != _shape(_parsed(new.text)):
        yield "the JSON in the text has other fields or types"


def _of_calls(old: Sequence[LMToolCallPart], new: Sequence[LMToolCallPart]) -> Iterator[str]:
    if [call.name for call in old] != [call.name for call in new]:
        yield f"it calls {_named(new)}, recorded was {_named(old)}"
        return
    for before, now in zip(old, new, strict=True):
        if _shape(_parsed(before.arguments)) != _shape(_parsed(now.arguments)):
            yield f"{before.name} is called with other arguments"


def _named(calls: Sequence[LMToolCallPart]) -> str:
    return ", ".join(str(call.name) for call in calls) or "no tool"


def _parsed(text: Any) -> Any:
    """JSON, or the value itself where it is none."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return text


def _shape(value: Any) -> Any:
    """The structure of a value: names and types. Items of a list are alike, and their number is content."""
    if isinstance(value, dict):
        return {name: _shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_shape(value[0])] if value else []
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, (int, float)) else type(value).__name__
