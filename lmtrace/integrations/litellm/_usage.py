"""Token counts and prices as LiteLLM reports them, without inventing any.

LiteLLM writes 0 where a provider said nothing; here that is None again: a request without a single prompt token does not
exist, so zero input tokens mean "unknown". The provider's own object stays whole in `LMUsage.details`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lmtrace._data import LMResponse, LMUsage
from lmtrace._quick import new_usage
from lmtrace.integrations.litellm import _models

COST_SOURCE = "litellm"


def usage_of(usage: Any) -> LMUsage | None:
    """Normalised counts of LiteLLM's `Usage` (chat, text and embeddings), or None when there is no usage object."""
    if usage is None:
        return None
    details = usage if isinstance(usage, dict) else _models.fields_of(usage)
    counts = details.get("prompt_tokens"), details.get("completion_tokens"), details.get("total_tokens")
    prompt, completion = details.get("prompt_tokens_details"), details.get("completion_tokens_details")
    return _usage(counts, prompt, completion, details)


def responses_usage_of(usage: Any) -> LMUsage | None:
    """The same for the usage object of the Responses interface."""
    if usage is None:
        return None
    details = usage if isinstance(usage, dict) else _models.fields_of(usage)
    counts = details.get("input_tokens"), details.get("output_tokens"), details.get("total_tokens")
    return _usage(counts, details.get("input_tokens_details"), details.get("output_tokens_details"), details)


def _usage(counts: tuple[Any, Any, Any], read: Any, written: Any, details: Mapping[str, Any]) -> LMUsage:
    read, written = read or _NONE, written or _NONE
    given, made, total = counts
    return new_usage(
        input_tokens=given or None,
        output_tokens=made if given else made or None,
        total_tokens=total or None,
        reasoning_tokens=written.get("reasoning_tokens"),
        cache_read_tokens=read.get("cached_tokens"),
        cache_write_tokens=_cache_writes(details, read),
        audio_tokens=_sum(read.get("audio_tokens"), written.get("audio_tokens")),
        details=details,
    )


_NONE: Mapping[str, Any] = {}


def _cache_writes(details: Mapping[str, Any], read: Mapping[str, Any]) -> int | None:
    count = read.get("cache_write_tokens")
    if count is None:
        count = read.get("cache_creation_tokens")
    return details.get("cache_creation_input_tokens") if count is None else count


def _sum(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else one + other


def cost_of(obj: Any, hidden: Any, usage: LMUsage | None) -> float | None:
    """What LiteLLM says an answer cost in US dollars, or None when it knows no price.

    LiteLLM notes its price on every answer it returns; only an answer without the note (one assembled from a stream) is
    priced here, by LiteLLM, and only when the provider reported the tokens.
    """
    noted = hidden if isinstance(hidden, dict) else getattr(hidden, "__pydantic_fields_set__", ())
    if "response_cost" in noted:
        return valid_cost(_models.hidden_value(hidden, "response_cost"))
    if usage is None or usage.input_tokens is None:
        return None
    return priced(obj, _models.hidden_value(hidden, "custom_llm_provider"))


def valid_cost(cost: Any) -> float | None:
    """`cost` when it is a possible price."""
    return float(cost) if isinstance(cost, (int, float)) and cost >= 0 else None


def priced(obj: Any, provider: str | None) -> float | None:
    """LiteLLM's price for an answer, or None when its price list does not have the model.

    The list is looked at first because LiteLLM prints advice to standard output for a model it does not know.
    """
    litellm = sys.modules.get("litellm")
    model = getattr(obj, "model", None)
    if litellm is None or not (model in litellm.model_cost or f"{provider}/{model}" in litellm.model_cost):
        return None
    try:
        return valid_cost(litellm.completion_cost(completion_response=obj, custom_llm_provider=provider))
    except Exception:  # LiteLLM raises a bare Exception for an answer it cannot price
        return None


def stream_cost(obj: Any, logging: Any, provider: str | None) -> float | None:
    """LiteLLM's price for an assembled answer, by the stream's own calculator, which knows a Router's prices too."""
    calculate = getattr(logging, "response_cost_calculator", None)
    if calculate is None:
        return priced(obj, provider)
    try:
        return valid_cost(calculate(result=obj))
    except Exception:  # as in `priced`
        return None


def with_cost(response: LMResponse, cost: float | None) -> LMResponse:
    """The response with a price, if there is one."""
    if cost is None:
        return response
    return replace(response, cost=cost, metadata={**(response.metadata or {}), "cost_source": COST_SOURCE})


def is_cache_hit(hidden: Any) -> bool:
    """Whether the answer came out of LiteLLM's own cache."""
    return hidden is not None and _models.hidden_value(hidden, "cache_hit") is True
