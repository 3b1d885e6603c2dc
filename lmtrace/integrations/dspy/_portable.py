"""Served answers as LiteLLM's objects, whichever engine made them when they were recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lmtrace._data import LMRequest, LMResponse
from lmtrace.integrations.litellm._served import hidden_params
from lmtrace.integrations.litellm._translate import to_litellm


def litellm_answer(response: LMResponse, request: LMRequest) -> Any:
    """The object of LiteLLM an answer stands for."""
    result = to_litellm(_portable(response), request.model_type)
    result._hidden_params = hidden_params(request, response)
    return result


def _portable(response: LMResponse) -> LMResponse:
    """The answer without what only lm15 understands."""
    if (response.metadata or {}).get("engine") is None:
        return response
    return replace(response, outputs=[replace(output, provider_data=None) for output in response.outputs])
