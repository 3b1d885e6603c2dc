"""The backend that asks a real provider, through LiteLLM.

It translates and nothing more: no retries, no cache, no records; those are backends of their own. Errors of the provider
pass as LiteLLM raises them. LiteLLM takes seconds to import, so that happens when a backend is made, which is before the
first call of an `LM` and not part of what is recorded of it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from lmtrace._data import LMChunk, LMRequest, LMResponse
from lmtrace.integrations.litellm._arguments import arguments
from lmtrace.integrations.litellm._assemble import Assembly, assembly_for, chunk_of
from lmtrace.integrations.litellm._translate import from_litellm

_FUNCTIONS: Final = {
    "chat": "completion",
    "text": "text_completion",
    "responses": "responses",
    "embedding": "embedding",
}


class LiteLLMBackend:
    """Answers requests by LiteLLM's functions for chat, text, Responses and embeddings."""

    def __init__(self) -> None:
        # Prices come with the LiteLLM that is installed; without this it fetches a list from the network when imported.
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        import litellm

        litellm.suppress_debug_info = True  # else every failed attempt prints an advertisement to stdout

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        """The provider's answer.

        Raises:
            Exception: whatever LiteLLM raises, unchanged.
        """
        return from_litellm(_function(request)(**_call(request, secrets)))

    async def acomplete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        """The async twin of `complete`."""
        return from_litellm(await _function(request, "a")(**_call(request, secrets)))

    def stream(self, request: LMRequest, secrets: Mapping[str, Any]) -> LiteLLMStream:
        """The provider's answer as it comes, with token counts where the provider can report them for streams."""
        return LiteLLMStream(_function(request)(**_stream_call(request, secrets)), request.model_type)

    async def astream(self, request: LMRequest, secrets: Mapping[str, Any]) -> LiteLLMAsyncStream:
        """The async twin of `stream`."""
        return LiteLLMAsyncStream(await _function(request, "a")(**_stream_call(request, secrets)), request.model_type)


def _function(request: LMRequest, prefix: str = "") -> Any:
    import litellm

    return getattr(litellm, prefix + _FUNCTIONS[request.model_type])


def _call(request: LMRequest, secrets: Mapping[str, Any]) -> dict[str, Any]:
    import litellm

    given = arguments(request, secrets)
    if litellm.cache is not None and "caching" not in given:  # set up by the program for its own calls
        given["cache"] = {"no-cache": True, "no-store": True}
    return given


def _stream_call(request: LMRequest, secrets: Mapping[str, Any]) -> dict[str, Any]:
    given = {**_call(request, secrets), "stream": True}
    if request.model_type in ("chat", "text") and "stream_options" not in given and _reports_usage(given["model"]):
        given["stream_options"] = {"include_usage": True}
    return given


@lru_cache(maxsize=256)
def _reports_usage(model: str) -> bool:
    """Whether a model's provider can be asked for the token counts of a stream."""
    import litellm

    try:
        return "stream_options" in (litellm.get_supported_openai_params(model) or ())
    except Exception:  # a model LiteLLM cannot place: the call itself will say so
        return False


class _Stream:
    """What both kinds of stream share."""

    def __init__(self, raw: Any, model_type: str) -> None:
        self._raw = raw
        self._assembly: Assembly = assembly_for(model_type, raw)

    @property
    def response(self) -> LMResponse:
        """What has arrived so far.

        Raises:
            RuntimeError: nothing has arrived yet.
        """
        response = self._assembly.response()
        if response is None:
            raise RuntimeError("nothing of the stream has arrived yet; iterate it first")
        return response

    def _taken(self, raw: Any) -> LMChunk:
        self._assembly.add(raw)
        return chunk_of(raw)


class LiteLLMStream(_Stream):
    """A streamed answer of LiteLLM's."""

    def __iter__(self) -> Iterator[LMChunk]:
        return map(self._taken, self._raw)

    def close(self) -> None:
        """Close the connection to the provider; what arrived stays in `response`."""
        for holder in _holders(self._raw):
            close = getattr(holder, "close", None)
            if close is not None:
                close()
                return


class LiteLLMAsyncStream(_Stream):
    """The async twin of `LiteLLMStream`."""

    async def __aiter__(self) -> AsyncIterator[LMChunk]:
        async for raw in self._raw:
            yield self._taken(raw)

    async def aclose(self) -> None:
        """Close the connection to the provider; what arrived stays in `response`."""
        for holder in _holders(self._raw):
            close = getattr(holder, "aclose", None)
            if close is not None:
                await close()
                return


def _holders(raw: Any) -> Iterator[Any]:
    """The objects that may know how to close a stream of LiteLLM's, from the outside in."""
    holder = raw
    while holder is not None:
        yield holder
        yield getattr(holder, "response", None)
        holder = getattr(holder, "completion_stream", None)
