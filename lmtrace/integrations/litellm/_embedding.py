"""Embeddings: LiteLLM's `EmbeddingResponse` as an `LMResponse` with one part for each vector, and back, lossless."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from lmtrace._data import LMEmbeddingPart, LMOutput, LMPart, LMResponse
from lmtrace.integrations.litellm import _chat, _models, _usage

_OBJECTS: Final = "data_class"
"""Notes in the provider data that the vectors came as objects; most providers' come as dictionaries."""


def from_embedding(obj: Any) -> LMResponse:
    """The normalised form of an embeddings response. The vectors are shared with it, not copied."""
    own = obj.__dict__
    usage = _usage.usage_of(own.get("usage"))
    if usage is not None and usage.output_tokens == 0:
        usage = replace(usage, output_tokens=None)
    hidden = _models.hidden_params(obj)
    cost = _usage.cost_of(obj, hidden, usage)
    items = own["data"]
    data = _rest(obj)
    if items and _models.is_model(items[0]):
        data[_OBJECTS] = type(items[0]).__name__
    return LMResponse(
        model=own.get("model"),
        outputs=[LMOutput(parts=[_part(item, index) for index, item in enumerate(items)])],
        usage=usage,
        cost=cost,
        cache_hit=_usage.is_cache_hit(hidden),
        provider_data=data or None,
        metadata={"cost_source": _usage.COST_SOURCE} if cost is not None else None,
    )


def _rest(obj: Any) -> dict[str, Any]:
    return {
        name: _models.plain(value)
        for name, value in _models.entries_of(obj)
        if name not in ("model", "data", "usage", "object")
    }


def _part(item: Any, position: int) -> LMPart:
    entries = dict(item) if isinstance(item, dict) else dict(_models.entries_of(item))
    vector = entries.pop("embedding", None)
    if entries == {"index": position, "object": "embedding"}:
        return LMEmbeddingPart(vector)
    return LMEmbeddingPart(vector, _models.plain(entries))


def to_embedding(response: LMResponse) -> Any:
    """The LiteLLM object a response stands for."""
    from litellm.types.utils import Embedding, EmbeddingResponse, Usage

    data = dict(response.provider_data or {})
    are_objects = data.pop(_OBJECTS, None) is not None
    items: list[Any] = [_item(part, index) for index, part in enumerate(response.outputs[0].of_type("embedding"))]
    values: Mapping[str, Any] = {
        "model": response.model,
        "object": "list",
        **data,
        "data": [_models.build(Embedding, item) for item in items] if are_objects else items,
        "usage": _models.build(Usage, _chat.chat_usage(response) or {}),
    }
    return _models.build(EmbeddingResponse, values)


def _item(part: Any, position: int) -> dict[str, Any]:
    rest = part.provider_data or {"index": position, "object": "embedding"}
    return {"embedding": part.vector, **rest}
