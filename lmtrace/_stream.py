"""Streamed answers of an LM: iterate for text, then read the whole.

    with lm.stream("Tell me a story.") as stream:
        for text in stream:
            print(text, end="")
    print(stream.response.usage)

The text is that of the first candidate; everything else that arrived is in `response`. A stream that is dropped, or left
early, is recorded with what had arrived, but is no entry of the in-memory history, which holds finished calls.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Self

from lmtrace._calls import outputs_of, warn_truncated
from lmtrace._data import LMChunk, LMRequest, LMResponse
from lmtrace._errors import LMTraceError
from lmtrace._provider_errors import wrap_provider_error

if TYPE_CHECKING:
    from types import TracebackType

    from lmtrace._callbacks import Notices
    from lmtrace._entry import HistoryEntry
    from lmtrace._lm import LM
    from lmtrace._traced import TracedAsyncStream, TracedStream
    from lmtrace._untraced import UntracedAsyncStream, UntracedStream


class _Streamed:
    """What the sync and the async stream share: all but the waiting."""

    _inner: TracedStream | TracedAsyncStream | UntracedStream | UntracedAsyncStream | None

    def __init__(self, lm: LM, request: LMRequest, secrets: Mapping[str, Any], notices: Notices | None) -> None:
        self._lm = lm
        self._request = request
        self._secrets = secrets
        self._notices = notices
        self._inner = None
        self._done = False
        if notices is not None:
            weakref.finalize(self, notices.end, None).atexit = False

    @property
    def response(self) -> LMResponse:
        """What has arrived so far; the whole answer once iteration has ended.

        Raises:
            ValueError: nothing has arrived yet.
        """
        if self._inner is None:
            raise ValueError("nothing has arrived yet: the stream is opened by its first step")
        return self._inner.response

    @property
    def outputs(self) -> list[str | dict[str, Any]]:
        """The candidates of `response` in the form `LM.__call__` returns them."""
        return outputs_of(self.response)

    @property
    def entry(self) -> HistoryEntry | None:
        """The history entry, once the stream has ended in whatever way."""
        return None if self._inner is None else self._inner.entry

    def _ended(self) -> None:
        """The last chunk has been read. Asking a finished stream for more comes here again and changes nothing."""
        if self._done:
            return
        self._done = True
        response, entry = self.response, self.entry
        warn_truncated(response, self._request)
        if entry is not None:
            self._lm.update_history(entry)
        if self._notices is not None:
            self._notices.end(outputs_of(response))

    def _raise(self, error: BaseException) -> NoReturn:
        """Raise one of the provider's errors as an `LMError`, and anything else as it is."""
        self._done = True
        if not isinstance(error, Exception) or isinstance(error, LMTraceError):
            self._notify(error)
            raise error
        wrapped = wrap_provider_error(error, model=self._request.model, secrets=self._secrets)
        self._notify(wrapped)
        raise wrapped from error

    def _notify(self, error: BaseException | None = None) -> None:
        if self._notices is not None:
            self._notices.end(None, error)


def _shown(chunk: LMChunk) -> bool:
    return bool(chunk.text) and chunk.index == 0


class LMStream(_Streamed):
    """A streamed answer: iterate it for pieces of text."""

    _inner: TracedStream | UntracedStream | None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        try:
            if self._inner is None:
                self._inner = self._lm._traced(self._request).stream(self._request, self._secrets)
            chunk = next(self._inner)
            while not _shown(chunk):
                chunk = next(self._inner)
        except StopIteration:
            self._ended()
            raise
        except BaseException as error:
            self._raise(error)
        return chunk.text

    def close(self) -> None:
        """Stop early; nothing if the stream has ended."""
        if self._inner is not None:
            self._inner.close()
        self._notify()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class LMAsyncStream(_Streamed):
    """A streamed answer: iterate it with ``async for``."""

    _inner: TracedAsyncStream | UntracedAsyncStream | None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        try:
            if self._inner is None:
                self._inner = await self._lm._traced(self._request).astream(self._request, self._secrets)
            chunk = await anext(self._inner)
            while not _shown(chunk):
                chunk = await anext(self._inner)
        except StopAsyncIteration:
            self._ended()
            raise
        except BaseException as error:
            self._raise(error)
        return chunk.text

    async def aclose(self) -> None:
        """Stop early; nothing if the stream has ended."""
        if self._inner is not None:
            await self._inner.aclose()
        self._notify()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()
