"""Recorded errors as the classes of LiteLLM, whose constructors all want something else.

A name in a recording is looked up among LiteLLM's public exceptions and nowhere else: a recording may come from anybody.
"""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Mapping
from typing import Any, Final

from lmtrace import _serving
from lmtrace._data import LMRequest
from lmtrace._entry import CallError

_BY_CODE: Final[Mapping[str, str]] = {
    "auth": "AuthenticationError",
    "billing": "RateLimitError",
    "rate_limit": "RateLimitError",
    "timeout": "Timeout",
    "server": "InternalServerError",
    "invalid_request": "BadRequestError",
    "context_window_exceeded": "ContextWindowExceededError",
    "unsupported_model": "NotFoundError",
    "transport": "APIConnectionError",
}
"""LiteLLM's class for an error that another library raised when it was recorded, by `LMError.code`."""

_BUILTIN: Final = frozenset({"TimeoutError", "ConnectionError", "ValueError", "TypeError", "KeyError", "RuntimeError"})


def litellm_error(recorded: CallError, request: LMRequest) -> Exception:
    """The exception LiteLLM raised when the call was recorded, marked as one of a replay."""
    error = _made(recorded, request)
    setattr(error, _serving.SERVED_BY, "replay")
    return error


def _made(recorded: CallError, request: LMRequest) -> Exception:
    from litellm import exceptions

    name = recorded.type.rpartition(".")[2]
    if recorded.type in _BUILTIN:
        return getattr(builtins, name)(recorded.message)  # type: ignore[no-any-return]
    cls = _class(exceptions, name) or _class(exceptions, _BY_CODE.get(recorded.code or "", "")) or exceptions.APIError
    error: Exception = cls(**_arguments(cls, recorded, request))
    if recorded.status is not None:
        error.status_code = recorded.status  # type: ignore[attr-defined]
    return error


def _class(exceptions: Any, name: str) -> Any:
    """A public exception class that is made of a message."""
    found = vars(exceptions).get(name)
    if not (isinstance(found, type) and issubclass(found, Exception)):
        return None
    return found if {"message", "model"} <= set(inspect.signature(found).parameters) else None


def _arguments(cls: Any, recorded: CallError, request: LMRequest) -> dict[str, Any]:
    import httpx

    status = recorded.status or 500
    headers = {} if recorded.retry_after is None else {"retry-after": f"{recorded.retry_after:g}"}
    asked = httpx.Request("POST", "https://replay.invalid")
    values = {
        "message": (recorded.message or "").removeprefix(f"litellm.{cls.__name__}: "),
        "model": request.model,
        "llm_provider": request.provider or "",
        "status_code": status,
        "response": httpx.Response(status, headers=headers, request=asked),
        "request": asked,
    }
    return {name: values[name] for name in inspect.signature(cls).parameters if name in values}
