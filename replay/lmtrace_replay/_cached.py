"""An answer as the cache keeps it: plain data that nobody else holds, given out as a fresh copy each time.

What a caller does to a response must not reach the next one. So an answer goes through its JSON form when it is kept, which
leaves nothing of the caller's in it, and each copy shares only what cannot be changed: texts, and parts made of texts.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final

import orjson

from lmtrace import _wire
from lmtrace._data import LMChunk, LMOutput, LMPart, LMResponse, LMUsage

_LOSSY: Final = b'"lossy":true'
"""In a JSON form: something that cannot be made again from it."""

_CRC_BYTES: Final = 4

Step = tuple[str, str, int]
"""Text, reasoning and candidate of one chunk of a streamed answer."""


class CachedAnswer:
    """One answer, and the steps it came in when it was streamed."""

    __slots__ = ("_outputs", "_response", "created_ns", "size", "steps")

    def __init__(self, response: LMResponse, steps: Sequence[Step], *, created_ns: int, size: int) -> None:
        self._response = response
        self._outputs = tuple(response.outputs) if all(map(_is_plain, response.outputs)) else None
        self.steps = tuple(steps)
        self.created_ns = created_ns
        """When the provider gave it, in nanoseconds since the epoch."""
        self.size = size
        """Bytes of its JSON form."""

    def response(self) -> LMResponse:
        """The answer as a cache hit; the caller may do with it what it likes."""
        kept = self._response
        return LMResponse(
            model=kept.model,
            outputs=self._outputs or tuple(map(_output, kept.outputs)),
            usage=None if kept.usage is None else _usage(kept.usage),
            cost=kept.cost,
            cache_hit=True,
            response_id=kept.response_id,
            provider_data=_fresh(kept.provider_data),
            metadata=_fresh(kept.metadata),
        )

    def chunks(self) -> list[LMChunk]:
        """The answer as a stream: the recorded steps, or one for each candidate."""
        steps = self.steps or [
            (output.text or "", output.reasoning or "", index) for index, output in enumerate(self._response.outputs)
        ]
        return [LMChunk(text=text, reasoning=reasoning, index=index) for text, reasoning, index in steps]


def serialised(response: LMResponse, steps: Sequence[Step] = ()) -> bytes | None:
    """The JSON form of an answer, or None for one that cannot be made again from it."""
    text = b'{"response":' + _wire.dumps(response.to_wire())
    if _LOSSY in text:
        return None
    return text + (b',"steps":' + orjson.dumps(steps) if steps else b"") + b"}"


def parsed(text: bytes, created_ns: int) -> CachedAnswer:
    """The answer a JSON form describes.

    Raises:
        ValueError: it describes none.
    """
    wire = orjson.loads(text)
    if _wire.TAG.encode() in text:
        wire = _wire.decode(wire)
    response = LMResponse.from_wire(wire["response"])
    steps = [(str(text), str(reasoning), int(index)) for text, reasoning, index in wire.get("steps", ())]
    return CachedAnswer(response, steps, created_ns=created_ns, size=len(text))


def sealed(text: bytes) -> bytes:
    """`text` behind its checksum."""
    return zlib.crc32(text).to_bytes(_CRC_BYTES, "big") + text


def unsealed(value: bytes) -> bytes | None:
    """What `sealed` was given, or None when it is not that any more."""
    text = value[_CRC_BYTES:]
    return text if zlib.crc32(text).to_bytes(_CRC_BYTES, "big") == value[:_CRC_BYTES] else None


def is_whole(response: LMResponse) -> bool:
    """Whether a streamed answer has come to its end: every candidate says why it stopped."""
    return all(output.finish_reason is not None for output in response.outputs)


def _is_plain(output: LMOutput) -> bool:
    """Whether there is nothing in a candidate that could be changed."""
    nothing = output.logprobs is None and output.provider_data is None and output.metadata is None
    return nothing and all(type(getattr(part, name)) in _FIXED for part in output.parts for name in part.__slots__)


_FIXED: Final = frozenset({str, type(None)})


def _output(output: LMOutput) -> LMOutput:
    return LMOutput(
        parts=tuple(map(_part, output.parts)),
        finish_reason=output.finish_reason,
        truncated=output.truncated,
        logprobs=_fresh(output.logprobs),
        provider_data=_fresh(output.provider_data),
        metadata=_fresh(output.metadata),
    )


def _part(part: LMPart) -> LMPart:
    made: LMPart = type(part)(**{name: _fresh(getattr(part, name)) for name in part.__slots__})
    return made


def _usage(usage: LMUsage) -> LMUsage:
    return LMUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        audio_tokens=usage.audio_tokens,
        details=_fresh(usage.details),
        metadata=_fresh(usage.metadata),
    )


_CHANGEABLE: Final = frozenset({dict, list, set})


def _fresh(value: Any) -> Any:
    """A copy of what `_wire.decode` gave."""
    kind = type(value)
    if kind is dict:
        return {name: _fresh(item) if type(item) in _CHANGEABLE else item for name, item in value.items()}
    if kind is list:
        return [_fresh(item) if type(item) in _CHANGEABLE else item for item in value]
    return set(value) if kind is set else value
