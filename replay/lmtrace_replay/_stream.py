"""Recorded streams: the deltas as they were, at once or in the recorded rhythm."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from lmtrace._data import LMChunk, LMOutput, LMReasoningPart, LMRequest, LMResponse, LMTextPart
from lmtrace._sleep import asleep
from lmtrace_replay._answers import SERVED, error_of, flagged
from lmtrace_replay._recording import RecordedChunk, Recording


class _Replayed:
    """What both kinds of stream share: all but the waiting."""

    def __init__(self, recording: Recording, request: LMRequest, *, timing: bool) -> None:
        self.recording = recording
        """The recording that is served."""
        self._request = request
        self._timing = timing
        self._given: list[LMChunk] = []
        self._is_over = False

    @property
    def recorded(self) -> LMResponse | None:
        """The whole recorded answer."""
        return self.recording.response

    @property
    def unstreamed(self) -> LMResponse | None:
        """The answer, where it was not recorded as a stream and the steps have to be made up."""
        response = self.recording.response
        is_whole = self.recording.chunks is None and self.recording.error is None and response is not None
        return flagged(response) if is_whole and response is not None else None

    @property
    def response(self) -> LMResponse:
        """What has been given so far; the recorded answer after the last chunk.

        Raises:
            RuntimeError: nothing has been given yet.
        """
        if self._is_over and self.recording.response is not None:
            return flagged(self.recording.response)
        if not self._given:
            raise RuntimeError("nothing of the stream has arrived yet; iterate it first")
        indices = sorted({chunk.index for chunk in self._given})
        outputs = [_so_far([chunk for chunk in self._given if chunk.index == index]) for index in indices]
        model = self.recording.response.model if self.recording.response is not None else None
        return LMResponse(model=model, outputs=outputs, metadata=dict(SERVED))

    def _steps(self) -> Iterator[tuple[float, LMChunk]]:
        """Each chunk with the seconds to wait before it."""
        before = 0.0
        for recorded in _chunks(self.recording):
            wait = max(0.0, (recorded.ms or 0.0) - before) / 1000
            before = recorded.ms or before
            chunk = LMChunk(
                text=recorded.text, reasoning=recorded.reasoning, index=recorded.index, raw=recorded.data
            )  # fmt: skip
            yield wait if self._timing else 0.0, chunk

    def _ended(self) -> None:
        self._is_over = True
        if self.recording.error is not None:
            raise error_of(self.recording, self._request)


def _chunks(recording: Recording) -> Iterator[RecordedChunk]:
    """The recorded steps; an answer that was not streamed comes in one step for each piece it has."""
    if recording.chunks is not None:
        yield from recording.chunks
    elif recording.response is not None:
        for index, output in enumerate(recording.response.outputs):
            if output.reasoning:
                yield RecordedChunk(reasoning=output.reasoning, index=index)
            yield RecordedChunk(text=output.text or "", index=index)


def _so_far(chunks: list[LMChunk]) -> LMOutput:
    reasoning = "".join(chunk.reasoning for chunk in chunks)
    text = LMTextPart("".join(chunk.text for chunk in chunks))
    return LMOutput(parts=(LMReasoningPart(reasoning), text) if reasoning else (text,))


class ReplayStream(_Replayed):
    """A recorded stream, given again."""

    def __init__(
        self,
        recording: Recording,
        request: LMRequest,
        *,
        timing: bool = False,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        super().__init__(recording, request, timing=timing)
        self._sleep = sleep

    def __iter__(self) -> Iterator[LMChunk]:
        for wait, chunk in self._steps():
            if wait:
                self._sleep(wait)
            self._given.append(chunk)
            yield chunk
        self._ended()

    def close(self) -> None:
        """Nothing is open."""


class ReplayAsyncStream(_Replayed):
    """The async twin of `ReplayStream`."""

    def __init__(
        self,
        recording: Recording,
        request: LMRequest,
        *,
        timing: bool = False,
        sleep: Callable[[float], Awaitable[object]] | None = None,
    ) -> None:
        super().__init__(recording, request, timing=timing)
        self._sleep = sleep or asleep

    async def __aiter__(self) -> AsyncIterator[LMChunk]:
        for wait, chunk in self._steps():
            if wait:
                await self._sleep(wait)
            self._given.append(chunk)
            yield chunk
        self._ended()

    async def aclose(self) -> None:
        """Nothing is open."""
