"""Calls of LiteLLM that somebody else may answer: a replay, in the provider's place.

The original function becomes a backend, and the server decides whether to ask it. When it did, the program gets LiteLLM's own
object untouched; else the answer is turned into the class the program expects. LiteLLM's retries, fallbacks and error
handling are inside the original function, so nothing of a replay passes through them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from lmtrace import _serving
from lmtrace._data import LMRequest, LMResponse
from lmtrace._errors import LMError
from lmtrace._record import CallRecord
from lmtrace._traced import TracedAsyncStream, TracedStream
from lmtrace.integrations.litellm._backend import LiteLLMAsyncStream, LiteLLMStream
from lmtrace.integrations.litellm._raised import litellm_error
from lmtrace.integrations.litellm._served_streams import served_stream
from lmtrace.integrations.litellm._translate import readable, to_litellm

_NO_SECRETS: Final[Mapping[str, Any]] = {}
"""The original function has its arguments already."""


class Original:
    """One call of a LiteLLM function as a backend."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self.result: Any = None
        """What LiteLLM returned, when it was asked."""
        self.answer: Any = None
        """The same as this backend gave it on."""

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        return self._given(self._function(*self._args, **self._unstreamed(request)))

    async def acomplete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        return self._given(await self._function(*self._args, **self._unstreamed(request)))

    def stream(self, request: LMRequest, secrets: Mapping[str, Any]) -> LiteLLMStream:
        self.result = self._function(*self._args, **self._kwargs)
        stream = self.answer = LiteLLMStream(self.result, request.model_type)
        return stream

    async def astream(self, request: LMRequest, secrets: Mapping[str, Any]) -> LiteLLMAsyncStream:
        self.result = await self._function(*self._args, **self._kwargs)
        stream = self.answer = LiteLLMAsyncStream(self.result, request.model_type)
        return stream

    def _given(self, result: Any) -> LMResponse:
        self.result = result
        response = self.answer = readable(result)
        return response

    def _unstreamed(self, request: LMRequest) -> dict[str, Any]:
        """The arguments; without ``stream`` where a whole answer is wanted in the place of a streamed one."""
        if request.stream or not self._kwargs.get("stream"):
            return self._kwargs
        return {name: value for name, value in self._kwargs.items() if name not in ("stream", "stream_options")}


def ask(server: _serving.Server, original: Original, record: CallRecord) -> Any:
    """What the program gets: LiteLLM's own object, or a `Served` one.

    Raises:
        Exception: LiteLLM's own error, or one of its classes made of what was recorded.
    """
    request, backend = record.request, server.serve(original)
    try:
        if request.stream:
            return _chosen(original, backend.stream(request, _NO_SECRETS))
        return _chosen(original, backend.complete(request, _NO_SECRETS))
    except LMError as error:
        raise _as_litellm(error, request) from None


async def aask(server: _serving.Server, original: Original, record: CallRecord) -> Any:
    """The async twin of `ask`."""
    request, backend = record.request, server.serve(original)
    try:
        if request.stream:
            return _chosen(original, await backend.astream(request, _NO_SECRETS))
        return _chosen(original, await backend.acomplete(request, _NO_SECRETS))
    except LMError as error:
        raise _as_litellm(error, request) from None


class Served:
    """An answer that LiteLLM did not give."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def given(self, record: CallRecord) -> Any:
        """The object the program expects; the record ends now, or with the stream."""
        answer, request = self._answer, record.request
        if not isinstance(answer, LMResponse):
            traced = TracedAsyncStream if hasattr(answer, "__aiter__") else TracedStream
            return served_stream(request, answer, lambda stream: traced(record, stream))
        record.finish(answer)
        result = to_litellm(answer, request.model_type)
        result._hidden_params = hidden_params(request, answer)
        return result


def hidden_params(request: LMRequest, answer: LMResponse) -> dict[str, Any]:
    """LiteLLM's notes on an answer, as far as they make sense for one that was not bought."""
    return {
        "response_cost": answer.cost,
        "custom_llm_provider": request.provider,
        "model_id": None,
        "additional_headers": {},
        "lmtrace_served_by": (answer.metadata or {}).get("served_by"),
    }


def _chosen(original: Original, answer: Any) -> Any:
    return original.result if answer is original.answer and answer is not None else Served(answer)


def _as_litellm(error: LMError, request: LMRequest) -> BaseException:
    """LiteLLM's class for an error that is raised again; any other passes as it is."""
    recorded = vars(error).get(_serving.RECORDED)
    return error if recorded is None else litellm_error(recorded, request)
