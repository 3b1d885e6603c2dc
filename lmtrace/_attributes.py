"""The attributes of an LM span: what a sampler needs when it starts, what is known when it ends.

This runs inside every call, so it is plain dictionaries, one table for the request parameters (`lmtrace._parameters`)
and no object per call.
Values that do not have the conventions' type are converted or left out; nothing here raises on odd ones.
Message content is only ever added by `end_attributes`, and only in the modes that ask for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lmtrace import _semconv as names
from lmtrace._conversation import inherited
from lmtrace._data import LMRequest, LMResponse, LMUsage
from lmtrace._entry import HistoryEntry, RunInfo
from lmtrace._messages import content_attributes
from lmtrace._parameters import PARAMETERS
from lmtrace._providers import identity

_NO_SETS: frozenset[str] = frozenset()
_OPENAI: Final = frozenset({"openai", "azure.ai.openai"})
_API_TYPES: Final = {"chat": "chat_completions", "responses": "responses"}
_KINDS: Final = {"embedding": "EMBEDDING"}


def span_name(request: LMRequest) -> str:
    """``chat gpt-4o-mini``: the operation and the model without its provider prefix."""
    return f"{request.operation} {identity(request.model, request.provider)[1]}"


def start_attributes(
    request: LMRequest,
    *,
    scope: str | None = None,
    run: RunInfo | None = None,
    compat: frozenset[str] = _NO_SETS,
) -> dict[str, Any]:
    """What is known before the provider is asked, for the start of the span, where samplers look.

    Args:
        request: The request.
        scope: Module path of the caller.
        run: The run the call belongs to; its tags become `lmtrace.tag.*`.
        compat: Sets of older names to add (`lmtrace._semconv.COMPAT`).
    """
    return surrounded(request_attributes(request), request.model_type, scope=scope, run=run, compat=compat)


def request_attributes(request: LMRequest) -> dict[str, Any]:
    """What follows from the request alone."""
    provider, model = identity(request.model, request.provider)
    attributes: dict[str, Any] = {
        names.OPERATION_NAME: request.operation,
        names.PROVIDER_NAME: provider,
        names.REQUEST_MODEL: model,
    }
    if request.server_address is not None:
        attributes[names.SERVER_ADDRESS] = request.server_address
        if request.server_port is not None:
            attributes[names.SERVER_PORT] = request.server_port
    if request.stream:
        attributes[names.REQUEST_STREAM] = True
    _add_parameters(attributes, request.kwargs)
    if provider in _OPENAI:
        _add_openai(attributes, request)
    return attributes


def surrounded(
    attributes: dict[str, Any],
    model_type: str,
    *,
    scope: str | None,
    run: RunInfo | None,
    compat: frozenset[str],
) -> dict[str, Any]:
    """`attributes` of a request, with what the code around the call adds: scope, run, conversation and older names."""
    if scope is not None:
        attributes[names.SCOPE] = scope
    if run is not None:
        _add_run(attributes, run)
    attributes.update(inherited())
    if compat:
        _add_compat(attributes, compat)
        if names.OPENINFERENCE in compat:
            attributes[names.OPENINFERENCE_KIND] = _KINDS.get(model_type, "LLM")
    return attributes


def end_attributes(
    entry: HistoryEntry,
    *,
    cost: bool = True,
    content: str = "no_content",
    compat: frozenset[str] = _NO_SETS,
) -> dict[str, Any]:
    """What is known once the call has ended, for the span before it is closed.

    An answer from the cache or a replay spent nothing: what it once used and cost stands under `lmtrace.recorded.*`.

    Args:
        entry: The finished call, already redacted.
        cost: Whether to add the provisional cost attributes.
        content: The content mode; messages are added in those of `lmtrace._semconv.SPAN_CONTENT`.
        compat: Sets of older names to add (`lmtrace._semconv.COMPAT`).
    """
    attributes: dict[str, Any] = {
        names.CALL_ID: entry.uuid,
        names.SERVED_BY: entry.served_by,
        names.ATTEMPTS: entry.attempts,
    }
    if entry.request_key is not None:
        attributes[names.REQUEST_KEY] = entry.request_key
    if entry.error is not None:
        attributes[names.ERROR_TYPE] = entry.error.type
    if entry.time_to_first_chunk_ms is not None:
        attributes[names.RESPONSE_FIRST_CHUNK] = entry.time_to_first_chunk_ms / 1000
    if entry.response is not None:
        _add_response(attributes, entry.response, entry.request)
        _add_spent(attributes, entry, cost)
    if content in names.SPAN_CONTENT:
        attributes.update(content_attributes(entry))
    if compat:
        _add_compat(attributes, compat)
    return attributes


def _add_parameters(attributes: dict[str, Any], kwargs: Mapping[str, Any]) -> None:
    for name, value in kwargs.items():
        parameter = PARAMETERS.get(name)
        if parameter is not None and value is not None:
            attribute, kind, convert = parameter
            converted = value if type(value) is kind else convert(value)
            if converted is not None:
                attributes[attribute] = converted


def _add_openai(attributes: dict[str, Any], request: LMRequest) -> None:
    api = _API_TYPES.get(request.model_type)
    if api is not None:
        attributes[names.OPENAI_API_TYPE] = api
    tier = request.kwargs.get("service_tier")
    if isinstance(tier, str) and tier != "auto":  # the conventions leave out the default
        attributes[names.OPENAI_REQUEST_TIER] = tier


def _add_run(attributes: dict[str, Any], run: RunInfo) -> None:
    attributes[names.RUN_ID] = run.run_id
    attributes[names.RUN_NAME] = run.name
    for tag, value in run.tags.items():
        attributes[names.TAG_PREFIX + tag] = value


def _add_response(attributes: dict[str, Any], response: LMResponse, request: LMRequest) -> None:
    if response.response_id is not None:
        attributes[names.RESPONSE_ID] = response.response_id
    if response.model is not None:
        attributes[names.RESPONSE_MODEL] = response.model
    if request.model_type != "embedding":
        attributes[names.RESPONSE_FINISH_REASONS] = [output.finish_reason or "error" for output in response.outputs]
    if response.provider_data:
        _add_provider_data(attributes, response.provider_data, request)


def _add_provider_data(attributes: dict[str, Any], data: Mapping[str, Any], request: LMRequest) -> None:
    if identity(request.model, request.provider)[0] not in _OPENAI:
        return
    for key, attribute in (
        ("service_tier", names.OPENAI_RESPONSE_TIER),
        ("system_fingerprint", names.OPENAI_FINGERPRINT),
    ):
        value = data.get(key)
        if isinstance(value, str):
            attributes[attribute] = value


def _add_spent(attributes: dict[str, Any], entry: HistoryEntry, cost: bool) -> None:  # noqa: FBT001 - private
    response = entry.response
    assert response is not None
    spent = attributes if entry.served_by == "provider" else {}
    if response.usage is not None:
        _add_usage(spent, response.usage)
    if cost and response.cost is not None:
        spent[names.USAGE_COST_AMOUNT] = response.cost
        spent[names.USAGE_COST_CURRENCY] = "USD"
        if entry.cost_source is not None:  # the conventions' proposal knows two; a price table is local
            spent[names.USAGE_COST_SOURCE] = "provider" if entry.cost_source == "provider" else "local"
    if spent is not attributes:
        attributes.update((names.RECORDED_PREFIX + name.removeprefix("gen_ai."), spent[name]) for name in spent)


def _add_usage(attributes: dict[str, Any], usage: LMUsage) -> None:
    if usage.input_tokens is not None:
        attributes[names.USAGE_INPUT_TOKENS] = usage.input_tokens
    if usage.output_tokens is not None:
        attributes[names.USAGE_OUTPUT_TOKENS] = usage.output_tokens
    if usage.cache_read_tokens is not None:
        attributes[names.USAGE_CACHE_READ] = usage.cache_read_tokens
    if usage.cache_write_tokens is not None:
        attributes[names.USAGE_CACHE_CREATION] = usage.cache_write_tokens
    if usage.reasoning_tokens is not None:
        attributes[names.USAGE_REASONING] = usage.reasoning_tokens


def _add_compat(attributes: dict[str, Any], compat: frozenset[str]) -> None:
    for name in compat:
        for attribute, older in names.COMPAT[name].items():
            if attribute in attributes:
                attributes[older] = attributes[attribute]
