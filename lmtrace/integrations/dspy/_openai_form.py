"""lm15's spelling of why an answer ended and of log probabilities, in OpenAI's form and back.

Rows and kept answers have the form that every other engine gives, so that one of lm15 can be served to LiteLLM's callers
and the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmtrace._data import LMOutput


def finish_reason(reason: str) -> str:
    """OpenAI's word for a reason of lm15."""
    return "tool_calls" if reason == "tool_call" else reason


def logprobs(tokens: Any) -> dict[str, Any] | None:
    """OpenAI's form of lm15's list of tokens."""
    return {"content": [_token(token) for token in tokens]} if tokens else None


def _token(token: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in token.items() if name != "top"}
    return {"bytes": None, **rest, "top_logprobs": [{"bytes": None, **one} for one in token.get("top", ())]}


def lm15_reason(output: LMOutput) -> str:
    """lm15's word for why a candidate ended."""
    reason = output.finish_reason or "stop"
    return _REASONS.get(reason, "stop")


_REASONS = {name: name for name in ("stop", "length", "content_filter", "tool_call", "error")}
_REASONS["tool_calls"] = "tool_call"


def lm15_logprobs(output: LMOutput) -> list[dict[str, Any]] | None:
    """lm15's list of tokens of a candidate."""
    found = output.logprobs
    content = found.get("content") if isinstance(found, Mapping) else None
    return [_lm15_token(token) for token in content] if content else None


def _lm15_token(token: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: token[name] for name in ("token", "logprob", "bytes", "token_id") if token.get(name) is not None}
    top = [_lm15_token(one) for one in token.get("top_logprobs") or ()]
    return {**known, "top": top} if top else known
