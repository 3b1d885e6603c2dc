"""Recorded chunks, sent to the listeners of a streamed program as DSPy sends them.

A call of which no chunks were recorded although it could have streamed (an answer out of a cache, an interface that does
not stream) sends none again. One that was recorded where nobody listened is sent word by word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from lmtrace._data import LMChunk, LMRequest, LMResponse
from lmtrace.integrations.dspy import _native


def send(stream: Any, request: LMRequest) -> LMResponse:
    """Sends each chunk of a served stream and gives the whole answer."""
    import anyio.from_thread
    from dspy.dsp.utils.settings import settings

    pieces = _Pieces(stream, request)
    if pieces.are_silent:
        return _answer(stream)
    for chunk in _whole(stream, request) or stream:
        anyio.from_thread.run(settings.send_stream.send, pieces.made(chunk))
    return _answer(stream)


async def asend(stream: Any, request: LMRequest) -> LMResponse:
    """The async twin of `send`."""
    from dspy.dsp.utils.settings import settings

    pieces = _Pieces(stream, request)
    if pieces.are_silent:
        return _answer(stream)
    whole = _whole(stream, request)
    if whole is not None:
        for chunk in whole:
            await settings.send_stream.send(pieces.made(chunk))
        return _answer(stream)
    async for chunk in stream:
        await settings.send_stream.send(pieces.made(chunk))
    return _answer(stream)


class LiveChunks:
    """Sends what a running call of `lmtrace.LM` brings to the listeners of the program around it."""

    def __init__(self, model: str) -> None:
        from dspy.dsp.utils.settings import settings

        self._stream = settings.send_stream
        self._predict_id = id(settings.caller_predict) if settings.caller_predict else None
        self._model = model
        self._rebuilder: Any = None

    def send(self, chunk: LMChunk) -> None:
        """Send one, from a thread beside the event loop."""
        import anyio.from_thread

        anyio.from_thread.run(self._stream.send, self._made(chunk))

    async def asend(self, chunk: LMChunk) -> None:
        """The async twin of `send`."""
        await self._stream.send(self._made(chunk))

    def _made(self, chunk: LMChunk) -> Any:
        """LiteLLM's own object, or one like it."""
        made = chunk.raw if hasattr(chunk.raw, "choices") else self._rebuilt(chunk)
        if self._predict_id:
            made.predict_id = self._predict_id
        return made

    def _rebuilt(self, chunk: LMChunk) -> Any:
        if self._rebuilder is None:
            from lmtrace.integrations.litellm._chunks import Rebuilder

            self._rebuilder = Rebuilder(self._model, None)
        return self._rebuilder.chat(chunk, chunk.raw)


_WORD: Final = re.compile(r"\s*\S+|\s+")


class _Pieces:
    """The objects one stream is made of."""

    def __init__(self, stream: Any, request: LMRequest) -> None:
        from dspy.dsp.utils.settings import settings

        recording: Any = getattr(stream, "recording", None)
        response = getattr(stream, "recorded", None)
        caller = settings.caller_predict
        was_whole = recording is not None and recording.error is None and recording.chunks is None
        self.are_silent = was_whole and recording.request.stream
        self._predict_id = id(caller) if caller else None
        self._response = response
        self._is_native = _native.is_native(response)
        if not self._is_native:
            from lmtrace.integrations.litellm._chunks import Rebuilder

            self._rebuilder = Rebuilder(request.model, response)

    def made(self, chunk: LMChunk) -> Any:
        """What the program gets of a chunk."""
        if self._is_native:
            return _native.chunk(chunk, self._response, self._predict_id)
        made = self._rebuilder.chat(chunk, chunk.raw)
        if self._predict_id:
            made.predict_id = self._predict_id
        return made


def _whole(stream: Any, request: LMRequest) -> list[LMChunk] | None:
    """The steps of an answer that was not recorded as a stream."""
    response: LMResponse | None = getattr(stream, "unstreamed", None)
    return None if response is None else list(_steps(response))


def _steps(response: LMResponse) -> Iterator[LMChunk]:
    """Each candidate word by word, which is what listeners are made for, then its end."""
    for index, output in enumerate(response.outputs):
        if output.reasoning:
            yield LMChunk(reasoning=output.reasoning, index=index)
        for text in _WORD.findall(output.text or ""):
            yield LMChunk(text=text, index=index)
        end = {"index": index, "delta": {}, "finish_reason": output.finish_reason or "stop"}
        yield LMChunk(index=index, raw={"choices": [end]})


def _answer(stream: Any) -> LMResponse:
    response: LMResponse = getattr(stream, "unstreamed", None) or stream.response
    return response
