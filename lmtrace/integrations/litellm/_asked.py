"""What a program asked LiteLLM for, read off the arguments of its call, whichever way they were passed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from lmtrace import _secrets
from lmtrace._data import LMRequest, ModelType
from lmtrace._quick import new_request
from lmtrace.integrations.litellm._facts import facts

_INPUTS: Final[Mapping[ModelType, str]] = {
    "chat": "messages",
    "text": "prompt",
    "responses": "input",
    "embedding": "input",
}
"""The parameter that holds what the model reads."""

_INTERNAL: Final = frozenset(
    {"model", "engine", "stream", "original_function", "litellm_logging_obj", "litellm_call_id", "litellm_trace_id"}
    | {"acompletion", "atext_completion", "aembedding", "aresponses", "is_retry", "is_fallback", "is_async"}
)
"""Parameters that have a field of their own in a request, or that LiteLLM passes to itself."""

_ASYNC_MARKS: Final = ("acompletion", "aembedding", "atext_completion", "aresponses")


_FIRST: Final[Mapping[ModelType, tuple[str, ...]]] = {
    "chat": ("model", "messages"),
    "text": ("prompt", "model"),
    "responses": ("input", "model"),
    "embedding": ("model", "input"),
}
"""The first parameters of each kind of function, for those that hide them behind ``*args``."""


def parameter_names(function: Callable[..., Any], model_type: ModelType) -> tuple[str, ...]:
    """The names under which positional arguments arrive, `self` left out."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    names = tuple(item.name for item in parameters if item.kind in kinds and item.name != "self")
    return names or _FIRST[model_type]


def is_half_of_async(kwargs: Mapping[str, Any]) -> bool:
    """Whether a sync function was asked, as LiteLLM does, to return a coroutine."""
    return any(kwargs.get(mark) is True for mark in _ASYNC_MARKS)


def request_of(
    model_type: ModelType, args: tuple[Any, ...], kwargs: Mapping[str, Any], names: tuple[str, ...], router: Any = None
) -> tuple[LMRequest, dict[str, Any]]:
    """The request and the credentials of one call."""
    given = {**dict(zip(names, args, strict=False)), **kwargs} if args else kwargs
    read = _INPUTS[model_type]
    safe, secrets = _secrets.split(
        {name: value for name, value in given.items() if value is not None and name != read and name not in _INTERNAL}
    )
    model = str(given.get("model") or given.get("engine") or "")
    where = _router_facts(router, model) or (
        model,
        safe.get("api_base") or safe.get("base_url"),
        given.get("custom_llm_provider"),
    )
    known = facts(*where)
    asked = given.get(read)
    is_prompt = model_type == "text" and isinstance(asked, str)
    request = new_request(
        model=model,
        model_type=model_type,
        messages=None if is_prompt else asked,
        prompt=asked if is_prompt else None,
        kwargs=safe,
        stream=given.get("stream") is True,
        provider=known.provider,
        server_address=known.server_address,
        server_port=known.server_port,
    )
    return request, secrets


def _router_facts(router: Any, group: str) -> tuple[Any, Any, Any] | None:
    """Model, address and provider behind a Router's model group, when all its deployments agree about them."""
    if router is None:
        return None
    found = {_deployment(item["litellm_params"]) for item in router.model_list if item.get("model_name") == group}
    if len(found) == 1:
        return found.pop()
    providers = {facts(*deployment).provider for deployment in found}
    return ("", None, providers.pop()) if len(providers) == 1 else None


def _deployment(params: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    address = params.get("api_base") or params.get("base_url")
    return params.get("model"), _secrets.clean_url(address) if address else None, params.get("custom_llm_provider")
