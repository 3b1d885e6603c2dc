"""Responses of lm15, the engine that DSPy 3.4 brings along, as an `LMResponse`.

Each candidate is a response of its own there. What has no place in an output stays, in lm15's own JSON form, in the
output's provider data, so that nothing is lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import attrgetter
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
from lmtrace._quick import new_output, new_response, new_text
from lmtrace.integrations.dspy import _lm15_raw, _openai_form
from lmtrace.integrations.litellm._usage import valid_cost

ENGINE: Final = "lm15"
COST_SOURCE: Final = "dspy"
COST_DETAILS: Final = "cost_details"
"""How DSPy came to its estimate, as it stands in its history."""

_TAKEN: Final = frozenset({"message", "finish_reason", "logprobs"})


_KNOWN: Final = _TAKEN | {"id", "model", "usage", "provider_data", "adaptations", "logprobs_complete"}


def response(result: Any, usage: LMUsage | None) -> LMResponse:
    """The candidates of one call as one response.

    Args:
        result: DSPy's result of the call, which holds a response for each candidate.
        usage: That of all of them.
    """
    first, cost = result.responses[0], valid_cost(result.cost)
    metadata: dict[str, Any] = {"engine": ENGINE}
    if result.cost_details:
        metadata[COST_DETAILS] = result.cost_details
    if cost is not None:
        metadata["cost_source"] = COST_SOURCE
    return new_response(
        model=result.response_model or first.model,
        outputs=[_output(one, first) for one in result.responses],
        usage=usage,
        cost=cost,
        cache_hit=result.cache_hit is True,
        response_id=first.id,
        metadata=metadata,
    )


def _output(one: Any, first: Any) -> LMOutput:
    parts, reason = [_part(part) for part in one.message.parts], one.finish_reason
    kind: Any = type(one)
    if one.logprobs is None and one.logprobs_complete and not one.adaptations and _is_known(kind):
        logprobs, rest = None, _plain_rest(one, first)
    else:
        from dspy._vendor.lm15.serde import response_to_dict

        data = response_to_dict(one)
        logprobs, rest = _openai_form.logprobs(data.get("logprobs")), _rest(data, first)
    if one.provider_data is not None:
        rest.update(_lm15_raw.kept(one.provider_data, texts(parts)))
    return new_output(
        parts=parts,
        finish_reason=_openai_form.finish_reason(reason),
        truncated=reason == "length",
        logprobs=logprobs,
        provider_data=rest or None,
    )


def _rest(data: Mapping[str, Any], first: Any) -> dict[str, Any]:
    """What an output has no place for; the id and the model only where they are not those of the whole answer."""
    known = {"id": first.id, "model": first.model}
    return {
        name: value
        for name, value in data.items()
        if name not in _TAKEN and value not in (None, {}, []) and known.get(name) != value
    }


def _plain_rest(one: Any, first: Any) -> dict[str, Any]:
    """The same for a response with nothing unusual, which lm15 need not serialise as a whole."""
    rest: dict[str, Any] = {}
    if one is not first:
        both = (("id", one.id, first.id), ("model", one.model, first.model))
        rest = {name: value for name, value, known in both if value is not None and value != known}
    kind: Any = type(one.usage)
    names, values = _fields(kind)
    usage = {name: value for name, value in zip(names, values(one.usage), strict=True) if value is not None}
    if usage:
        rest["usage"] = usage
    return rest


@cache
def _is_known(cls: Any) -> bool:
    """Whether the responses of a class have the fields that are looked at here, and no others."""
    return _KNOWN.issuperset(cls.__dataclass_fields__)


@cache
def _fields(cls: Any) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    names = tuple(cls.__dataclass_fields__)
    return names, attrgetter(*names)


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
    "text": lambda part, rest: new_text(part.text, rest),
    "thinking": lambda part, rest: LMReasoningPart(part.text, rest),
    "refusal": lambda part, rest: LMRefusalPart(part.text, rest),
    "tool_call": lambda part, rest: LMToolCallPart(part.id, part.name, json.dumps(part.input), rest),
    "citation": lambda part, rest: LMCitationPart(part.title, part.url, part.text, rest),
}
