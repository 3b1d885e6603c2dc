"""Streams that LiteLLM returned, followed to their end without the program noticing.

The program gets the very object LiteLLM made. Its class becomes a subclass of its own class, of the same name, whose steps
note what passes; so ``isinstance``, attributes, and LiteLLM's own handling of its streams stay as they are. The span is
current during each step and never between two of them. A stream dropped half-way is recorded when it is collected.
"""

from __future__ import annotations

import types
from collections.abc import AsyncGenerator, Callable, Generator
from functools import cache
from typing import Any, Final

from lmtrace._data import ModelType
from lmtrace._failures import failures
from lmtrace._record import CallRecord
from lmtrace.integrations.litellm._assemble import assembly_for, chunk_of
from lmtrace.integrations.litellm._dropped import dropped
from lmtrace.integrations.litellm._translate import UNREADABLE

_KEY: Final = "_lmtrace_follower"


class Follower:
    """Notes the chunks of one stream and closes its record. Holds no reference to the stream."""

    __slots__ = ("_assembly", "_is_over", "_on_end", "forget", "record")

    def __init__(self, stream: Any, record: CallRecord, model_type: ModelType, on_end: Callable[[], None]) -> None:
        self.record = record
        self._assembly = assembly_for(model_type, stream)
        self._on_end = on_end
        self._is_over = False
        self.forget: Callable[[], object] = _nothing

    def noted(self, chunk: Any) -> None:
        try:
            self.record.chunk(chunk, chunk_of)
            self._assembly.add(chunk)
        except Exception as error:
            failures.note("noting a chunk of LiteLLM", error)

    def ended(self) -> None:
        if self._ends():
            self.record.finish(self._so_far() or UNREADABLE)

    def failed(self, error: BaseException) -> None:
        if self._ends():
            self.record.fail(error, self._so_far())

    def dropped(self) -> None:
        if self._ends():
            self.record.abandon(self._so_far())

    def _ends(self) -> bool:
        """Whether this is the first time that the stream ends."""
        was_over, self._is_over = self._is_over, True
        if not was_over:
            self.forget()
            self._on_end()
        return not was_over

    def _so_far(self) -> Any:
        try:
            return self._assembly.response()
        except Exception as error:
            failures.note("assembling a stream of LiteLLM", error)
            return None


def _nothing() -> None:
    """What a follower has to forget before it watches for a drop."""


def follow(stream: Any, record: CallRecord, model_type: ModelType, on_end: Callable[[], None]) -> Any:
    """The stream, followed: itself, or for a generator, whose class cannot change, a generator around it.

    Raises:
        TypeError: it is no stream.
    """
    follower = Follower(stream, record, model_type, on_end)
    if isinstance(stream, types.GeneratorType):
        return _generator(stream, follower)
    if isinstance(stream, types.AsyncGeneratorType):
        return _async_generator(stream, follower)
    cls: Any = type(stream)
    if not (hasattr(cls, "__next__") or hasattr(cls, "__anext__")):
        raise TypeError(f"{cls.__name__} is neither an answer nor a stream")
    stream.__dict__[_KEY] = follower
    stream.__class__ = _followed(cls) if "<locals>" not in cls.__qualname__ else _new_class(cls)
    follower.forget = dropped.watch(stream, follower.dropped)
    return stream


@cache
def _followed(cls: Any) -> Any:
    return _new_class(cls)


def _new_class(cls: Any) -> Any:
    """A subclass that follows. Classes made inside functions are not kept: LiteLLM's Router makes one for each stream."""
    methods = {name: make(getattr(cls, name)) for name, make in _METHODS.items() if hasattr(cls, name)}
    about = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls,), {**about, **methods})


def _next(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def __next__(self: Any) -> Any:  # noqa: N807
        follower: Follower = self.__dict__[_KEY]
        try:
            with follower.record.step():
                chunk = step(self)
        except StopIteration:
            follower.ended()
            raise
        except BaseException as error:
            follower.failed(error)
            raise
        follower.noted(chunk)
        return chunk

    return __next__


def _anext(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    async def __anext__(self: Any) -> Any:  # noqa: N807
        follower: Follower = self.__dict__[_KEY]
        try:
            with follower.record.step():
                chunk = await step(self)
        except StopAsyncIteration:
            follower.ended()
            raise
        except BaseException as error:
            follower.failed(error)
            raise
        follower.noted(chunk)
        return chunk

    return __anext__


def _close(step: Callable[..., Any]) -> Callable[..., Any]:
    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return step(self, *args, **kwargs)
        finally:
            self.__dict__[_KEY].dropped()

    return close


def _aclose(step: Callable[..., Any]) -> Callable[..., Any]:
    async def aclose(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await step(self, *args, **kwargs)
        finally:
            self.__dict__[_KEY].dropped()

    return aclose


_METHODS: Final = {"__next__": _next, "__anext__": _anext, "close": _close, "aclose": _aclose}


def _generator(stream: Generator[Any, Any, Any], follower: Follower) -> Generator[Any, Any, Any]:
    step = _next(lambda self: next(self.stream))
    holder = types.SimpleNamespace(stream=stream, **{_KEY: follower})
    try:
        while True:
            try:
                chunk = step(holder)
            except StopIteration:
                return
            yield chunk
    finally:
        stream.close()
        follower.dropped()


async def _async_generator(stream: AsyncGenerator[Any, Any], follower: Follower) -> AsyncGenerator[Any, Any]:
    step = _anext(lambda self: anext(self.stream))
    holder = types.SimpleNamespace(stream=stream, **{_KEY: follower})
    try:
        while True:
            try:
                chunk = await step(holder)
            except StopAsyncIteration:
                return
            yield chunk
    finally:
        await stream.aclose()
        follower.dropped()
