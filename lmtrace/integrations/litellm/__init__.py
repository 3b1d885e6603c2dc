"""LiteLLM: translation of its answers, a backend that calls it, and instrumentation for programs that call it themselves.

Nothing here imports LiteLLM before a call is made through the backend.
"""

from __future__ import annotations

from lmtrace.integrations.litellm._assemble import assembly_for
from lmtrace.integrations.litellm._backend import LiteLLMBackend
from lmtrace.integrations.litellm._facts import Facts, facts
from lmtrace.integrations.litellm._patch import instrument, uninstrument
from lmtrace.integrations.litellm._translate import from_litellm, to_litellm

__all__ = [
    "Facts",
    "LiteLLMBackend",
    "assembly_for",
    "facts",
    "from_litellm",
    "instrument",
    "to_litellm",
    "uninstrument",
]
