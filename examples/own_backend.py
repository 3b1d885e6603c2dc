"""A model of your own behind `lmtrace.LM`: anything with these four methods is recorded like a provider."""

from collections.abc import Mapping
from typing import Any

import lmtrace
from lmtrace import LMOutput, LMRequest, LMResponse, LMTextPart, LMUsage


class Parrot:
    """Says what it was told."""

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        text = request.messages[-1]["content"]
        usage = LMUsage(input_tokens=len(text.split()), output_tokens=len(text.split()))
        return LMResponse(
            model="parrot-1", outputs=[LMOutput(parts=[LMTextPart(text)], finish_reason="stop")], usage=usage
        )

    async def acomplete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        return self.complete(request, secrets)

    def stream(self, request: LMRequest, secrets: Mapping[str, Any]) -> Any:
        raise NotImplementedError("a parrot says everything at once")

    async def astream(self, request: LMRequest, secrets: Mapping[str, Any]) -> Any:
        raise NotImplementedError("a parrot says everything at once")


lm = lmtrace.LM("mine/parrot", backend=Parrot())
print(lm("Pieces of eight"))
print(lm.history[-1].usage)
