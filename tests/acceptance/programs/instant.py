"""A backend that answers at once, and the uuid of the call a thread has just made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import lmtrace
from lmtrace import LMChunk, LMOutput, LMRequest, LMResponse, LMTextPart, LMUsage


class Instant:
    """Repeats what it is told."""

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        text = request.messages[-1]["content"]
        usage = LMUsage(input_tokens=len(text), output_tokens=len(text), total_tokens=2 * len(text))
        return LMResponse(
            model="instant-1", outputs=[LMOutput(parts=[LMTextPart(text)], finish_reason="stop")], usage=usage
        )

    async def acomplete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        return self.complete(request, secrets)

    def stream(self, request: LMRequest, secrets: Mapping[str, Any]) -> InstantStream:
        return InstantStream(self.complete(request, secrets))

    async def astream(self, request: LMRequest, secrets: Mapping[str, Any]) -> Any:
        raise NotImplementedError("no program here streams in tasks")


class InstantStream:
    """An answer in pieces of one letter."""

    def __init__(self, whole: LMResponse) -> None:
        self.response = whole

    def __iter__(self) -> Iterator[LMChunk]:
        for letter in self.response.outputs[0].text or "":
            yield LMChunk(text=letter)

    def close(self) -> None:
        """Nothing is open."""


def instant_lm() -> lmtrace.LM:
    """An LM that answers at once."""
    return lmtrace.LM("local/instant", backend=Instant(), num_retries=0)


def uuid_of(lm: lmtrace.LM) -> str:
    """The id of the newest call of an LM that one thread uses."""
    uuid: str = lm.history[-1]["uuid"]
    return uuid
