"""`dspy.Embedder` and the store's cache: the vectors of a hosted model, which DSPy would keep in its own.

Embedders that are functions of the program's own are no LM calls; DSPy goes on to cache those.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from lmtrace import _recorder, _serving
from lmtrace._data import LMRequest, LMResponse
from lmtrace._failures import failures
from lmtrace._record import CallRecord, active_call
from lmtrace.integrations._patching import Function, Switch
from lmtrace.integrations.dspy._store_cache import StoreCache, is_working, wishes
from lmtrace.integrations.litellm._asked import request_of
from lmtrace.integrations.litellm._translate import from_litellm


def wrap_embeddings(original: Function, switch: Switch) -> Function:
    """A wrapper of the function whose results DSPy caches, sync or async."""

    @functools.wraps(original)
    def wrapper(model: Any, batch_inputs: Any, caching: bool = True, **kwargs: Any) -> Any:  # noqa: FBT001, FBT002
        asked = _begin(model, batch_inputs, kwargs) if switch.is_on else None
        if asked is None:
            return original(model, batch_inputs, caching=caching, **kwargs)
        record, secrets = asked
        backend = StoreCache().serve(_Hosted(lambda: _litellm().embedding(**_arguments(model, batch_inputs, kwargs))))
        with record:
            response = backend.complete(record.request, secrets)
        return _finished(record, response)

    @functools.wraps(original)
    async def async_wrapper(model: Any, batch_inputs: Any, caching: bool = True, **kwargs: Any) -> Any:  # noqa: FBT001, FBT002
        asked = _begin(model, batch_inputs, kwargs) if switch.is_on else None
        if asked is None:
            return await original(model, batch_inputs, caching=caching, **kwargs)
        record, secrets = asked
        backend = StoreCache().serve(_Hosted(lambda: _litellm().aembedding(**_arguments(model, batch_inputs, kwargs))))
        with record:
            response = await backend.acomplete(record.request, secrets)
        return _finished(record, response)

    return async_wrapper if inspect.iscoroutinefunction(original) else wrapper


def _begin(model: Any, inputs: Any, kwargs: Mapping[str, Any]) -> tuple[CallRecord, Mapping[str, Any]] | None:
    """The record of a call that the cache may answer, and its credentials; None for any other."""
    if not isinstance(model, str) or not is_working() or _serving.current() is not None or active_call() is not None:
        return None
    try:
        request, secrets = request_of("embedding", (), {"model": model, "input": inputs, **kwargs}, ())
        request = replace(request, metadata=wishes(None, cache=True))
        return _recorder.current().start(request, secrets), secrets
    except Exception as error:
        failures.note("reading a call of dspy.Embedder", error)
        return None


def _arguments(model: str, inputs: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """As DSPy gives them to LiteLLM, whose own cache works only where the program has one."""
    return {"model": model, "input": inputs, "caching": _litellm().cache is not None, **kwargs}


def _litellm() -> Any:
    from dspy.clients import embedding

    find = getattr(embedding, "_get_litellm", None)
    return embedding.litellm if find is None else find()


class _Hosted:
    """LiteLLM's embeddings call as a backend."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask = ask

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        return from_litellm(self._ask())

    async def acomplete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        return from_litellm(await self._ask())

    def stream(self, request: LMRequest, secrets: Mapping[str, Any]) -> Any:
        raise NotImplementedError("embeddings are not streamed")

    async def astream(self, request: LMRequest, secrets: Mapping[str, Any]) -> Any:
        raise NotImplementedError("embeddings are not streamed")


def _finished(record: CallRecord, response: LMResponse) -> list[Any]:
    record.finish(response)
    parts: Iterable[Any] = response.outputs[0].of_type("embedding")
    return [part.vector for part in parts]
