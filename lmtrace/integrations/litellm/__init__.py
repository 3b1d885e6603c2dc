"""LiteLLM: translation of its answers, a backend that calls it, and instrumentation for programs that call it themselves."""

from __future__ import annotations
