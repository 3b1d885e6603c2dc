"""Streams of LiteLLM's classes that give recorded chunks.

A program may look at the class of a stream, so it gets a subclass of the one LiteLLM would have returned, of the same name.
LiteLLM's own steps, which translate what providers send, are not in the way: the chunks are complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

from lmtrace import _serving
from lmtrace._data import LMChunk, LMRequest, LMResponse
from lmtrace._errors import LMError
from lmtrace.integrations.litellm._chunks import Rebuilder
from lmtrace.integrations.litellm._raised import litellm_error
from lmtrace.integrations.litellm._whole import whole_steps

_STREAM: Final = "_lmtrace_stream"
_REBUILD: Final = "_lmtrace_rebuild"
_REQUEST: Final = "_lmtrace_request"


def served_stream(request: LMRequest, stream: Any, trace: Callable[[Any], Any]) -> Any:
    """The object a program gets for a stream that is served.

    Args:
        request: What was asked.
        stream: The chunks.
        trace: Puts the recorder around them.
    """
    is_async = hasattr(stream, "__aiter__")
    whole: LMResponse | None = getattr(stream, "unstreamed", None)
    response = whole or getattr(stream, "recorded", None)
    if whole is not None:
        steps = whole_steps(request, whole)
        stream = _AsyncSteps(steps, whole) if is_async else _Steps(steps, whole)
    served = _class(request.model_type, is_async=is_async)
    obj = served.__new__(served)
    obj.__dict__.update(_attributes(request))
    rebuilder = Rebuilder(request.model, response)
    make = {"responses": rebuilder.event, "text": rebuilder.text}.get(request.model_type, rebuilder.chat)
    obj.__dict__.update({_STREAM: trace(stream), _REBUILD: make, _REQUEST: request})
    return obj


def _attributes(request: LMRequest) -> dict[str, Any]:
    """What programs read off a stream of LiteLLM's."""
    hidden: dict[str, Any] = {"custom_llm_provider": request.provider, "model_id": None, "additional_headers": {}}
    return {
        "model": request.model,
        "custom_llm_provider": request.provider,
        "completion_stream": None,
        "logging_obj": None,
        "chunks": [],
        "stream_options": request.kwargs.get("stream_options"),
        "response_id": None,
        "finished": False,
        "completed_response": None,
        "_hidden_params": hidden,
        "_response_headers": {},
    }


class _Steps:
    """A stream of chunks that are at hand."""

    def __init__(self, chunks: list[LMChunk], response: LMResponse) -> None:
        self._chunks = chunks
        self.response = response

    def __iter__(self) -> Iterator[LMChunk]:
        return iter(self._chunks)

    def close(self) -> None: ...


class _AsyncSteps(_Steps):
    async def __aiter__(self) -> Any:
        for chunk in self._chunks:
            yield chunk

    async def aclose(self) -> None: ...


@cache
def _class(model_type: str, *, is_async: bool) -> Any:
    cls = _original(model_type, is_async=is_async)
    about = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls,), {**about, **(_ASYNC if is_async else _SYNC)})


def _original(model_type: str, *, is_async: bool) -> Any:
    """The class of the stream that LiteLLM returns for a kind of call."""
    if model_type == "responses":
        from litellm.responses import streaming_iterator as iterators

        return iterators.ResponsesAPIStreamingIterator if is_async else iterators.SyncResponsesAPIStreamingIterator
    if model_type == "text":
        from litellm.utils import TextCompletionStreamWrapper

        return TextCompletionStreamWrapper
    from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper

    return CustomStreamWrapper


def _rebuilt(self: Any, chunk: LMChunk) -> Any:
    made = self.__dict__[_REBUILD](chunk, chunk.raw)
    self.__dict__["chunks"].append(made)
    return made


def _raised(self: Any, error: LMError) -> BaseException:
    recorded = vars(error).get(_serving.RECORDED)
    return error if recorded is None else litellm_error(recorded, self.__dict__[_REQUEST])


def _itself(self: Any) -> Any:
    return self


def _next(self: Any) -> Any:
    try:
        return _rebuilt(self, next(self.__dict__[_STREAM]))
    except LMError as error:
        raise _raised(self, error) from None


async def _anext(self: Any) -> Any:
    try:
        return _rebuilt(self, await anext(self.__dict__[_STREAM]))
    except LMError as error:
        raise _raised(self, error) from None


def _close(self: Any) -> None:
    self.__dict__[_STREAM].close()


async def _aclose(self: Any) -> None:
    await self.__dict__[_STREAM].aclose()


_SYNC: Final = {"__iter__": _itself, "__next__": _next, "close": _close}
_ASYNC: Final = {"__aiter__": _itself, "__anext__": _anext, "aclose": _aclose}
