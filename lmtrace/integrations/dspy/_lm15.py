"""Responses of lm15, the engine that DSPy 3.4 brings along, as an `LMResponse`.

Each candidate is a response of its own there. What has no place in an output stays, in lm15's own JSON form, in the
output's provider data, so that nothing is lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from lmtrace._data import (
    LMCitationPart,
    LMOtherPart,
    LMOutput,
    LMPart,
    LMReasoningPart,
    LMRefusalPart,
    LMResponse,
    LMTextPart,
    LMToolCallPart,
    LMUsage,
)
from lmtrace.integrations.dspy import _lm15_raw, _openai_form

ENGINE: Final = "lm15"
COST_DETAILS: Final = "cost_details"
"""How DSPy came to its estimate, as it stands in its history."""

_TAKEN: Final = frozenset({"message", "finish_reason", "logprobs"})


def response(
    responses: Sequence[Any], usage: LMUsage | None, cost_details: Mapping[str, Any] | None = None
) -> LMResponse:
    """The candidates of one call as one response; `usage` and `cost_details` are those of all of them."""
    first = responses[0]
    return LMResponse(
        model=first.model,
        outputs=[_output(one, first) for one in responses],
        usage=usage,
        response_id=first.id,
        metadata={"engine": ENGINE, COST_DETAILS: cost_details} if cost_details else {"engine": ENGINE},
    )


def _output(one: Any, first: Any) -> LMOutput:
    from dspy._vendor.lm15.serde import response_to_dict

    reason, data = one.finish_reason, response_to_dict(one)
    parts = [_part(part) for part in one.message.parts]
    return LMOutput(
        parts=parts,
        finish_reason=_openai_form.finish_reason(reason),
        truncated=reason == "length",
        logprobs=_openai_form.logprobs(data.get("logprobs")),
        provider_data={**_rest(data, first), **_lm15_raw.kept(one.provider_data, texts(parts))} or None,
    )


def _rest(data: Mapping[str, Any], first: Any) -> dict[str, Any]:
    """What an output has no place for; the id and the model only where they are not those of the whole answer."""
    known = {"id": first.id, "model": first.model}
    return {
        name: value
        for name, value in data.items()
        if name not in _TAKEN and value not in (None, {}, []) and known.get(name) != value
    }


def texts(parts: Sequence[LMPart]) -> list[str | None]:
    """The text of each part, for raw data that repeats it."""
    return [part.text if isinstance(part, (LMTextPart, LMReasoningPart)) else None for part in parts]


def _part(part: Any) -> LMPart:
    make = _MAKERS.get(part.type)
    return make(part, _continuation(part)) if make is not None else _other(part)


def _continuation(part: Any) -> Mapping[str, Any] | None:
    """What the provider wants back with the part: signatures and encrypted thoughts."""
    if not part.continuation:
        return None
    from dspy._vendor.lm15.serde import part_to_dict

    return {"continuation": part_to_dict(part).get("continuation")}


def _other(part: Any) -> LMPart:
    from dspy._vendor.lm15.serde import part_to_dict

    return LMOtherPart(part_to_dict(part))


_Make = Callable[[Any, Mapping[str, Any] | None], LMPart]

_MAKERS: Final[dict[str, _Make]] = {
    "text": lambda part, rest: LMTextPart(part.text, rest),
    "thinking": lambda part, rest: LMReasoningPart(part.text, rest),
    "refusal": lambda part, rest: LMRefusalPart(part.text, rest),
    "tool_call": lambda part, rest: LMToolCallPart(part.id, part.name, json.dumps(part.input), rest),
    "citation": lambda part, rest: LMCitationPart(part.title, part.url, part.text, rest),
}
