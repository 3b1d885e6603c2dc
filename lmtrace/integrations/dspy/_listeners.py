"""Chunks on their way to the listeners of a streamed program: every version of DSPy sends them to ``settings.send_stream``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from lmtrace._data import LMChunk
from lmtrace._failures import failures
from lmtrace._record import CallRecord
from lmtrace.integrations.litellm._assemble import chunk_of


class Overheard:
    """A program's stream that notes the chunks of one call. Everything else is the stream's own."""

    def __init__(self, stream: Any, record: CallRecord) -> None:
        self._stream = stream
        self._record = record

    async def send(self, item: Any) -> None:
        """Pass an item on."""
        self._note(item)
        await self._stream.send(item)

    def _note(self, item: Any) -> None:
        try:
            read = _reader(item)
            if read is not None:
                self._record.chunk(item, read)
        except Exception as error:
            failures.note("noting a chunk of DSPy", error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def overheard(record: CallRecord) -> AbstractContextManager[Any]:
    """A context in which what DSPy sends to the program is noted in the record of the call that sends it."""
    from dspy.dsp.utils.settings import settings

    context: AbstractContextManager[Any] = settings.context(send_stream=Overheard(settings.send_stream, record))
    return context


def deaf() -> AbstractContextManager[Any]:
    """A context in which DSPy does not stream, whatever the program wants."""
    from dspy.dsp.utils.settings import settings

    context: AbstractContextManager[Any] = settings.context(send_stream=None)
    return context if settings.send_stream is not None else nullcontext()


def _reader(item: Any) -> Any:
    """What reads an item, when it is a chunk: LiteLLM's, or the one DSPy makes of an event of its engine."""
    name = type(item).__name__
    return chunk_of if name == "ModelResponseStream" else _engine_chunk if name == "EngineChunk" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChunk(LMChunk):
    """A chunk that knows the plain form of DSPy's own."""

    def to_wire(self) -> dict[str, Any]:
        """The JSON form, with DSPy's own data where that says more than text."""
        wire = LMChunk.to_wire(self)
        (choice,) = self.raw["choices"]
        is_plain = choice["finish_reason"] is None and choice["delta"].keys() == {"content"}
        return wire if is_plain else {**wire, "data": {"choices": [_plain(choice)]}}


def _engine_chunk(raw: Any) -> LMChunk:
    delta = raw["choices"][0]["delta"]
    return EngineChunk(text=delta.get("content") or "", reasoning=delta.get("reasoning_content") or "", raw=raw)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
