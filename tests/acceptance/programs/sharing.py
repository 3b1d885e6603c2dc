"""Ask the one question that all programs here ask, of a provider that waits for a line on stdin; print the answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from instant import Instant

import lmtrace
from lmtrace import LMOutput, LMRequest, LMResponse, LMTextPart


class Waiting(Instant):
    """Says that it was asked, and answers who asked it when it is told to."""

    cache_name = "the provider of all"

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> LMResponse:
        sys.stdout.write("asked\n")
        sys.stdout.flush()
        sys.stdin.readline()
        return LMResponse(model="m", outputs=[LMOutput(parts=[LMTextPart(f"answer of {os.getpid()}")])])


lm = lmtrace.LM("local/waiting", backend=Waiting(), num_retries=0)
sys.stdout.write(f"{lm('the question')[0]}\n")
