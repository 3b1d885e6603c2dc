"""From an exception of a provider library to `LMError`, without importing that library.

Exceptions are recognised by the names of their classes and by their HTTP status, because those are what LiteLLM, the
OpenAI client, httpx and aiohttp share and keep stable. One classification serves both the error the user sees and the
decision to try again, so the two cannot disagree.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

from lmtrace import _errors as errors
from lmtrace._errors import LMError

_BY_NAME: Final[Mapping[str, type[LMError]]] = {
    "ContextWindowExceededError": errors.ContextWindowExceededError,
    "UnsupportedParamsError": errors.LMUnsupportedFeatureError,
    "BudgetExceededError": errors.LMBillingError,
    "PaymentRequiredError": errors.LMBillingError,
    "AuthenticationError": errors.LMAuthError,
    "PermissionDeniedError": errors.LMAuthError,
    "NotFoundError": errors.LMUnsupportedModelError,
    "LiteLLMUnknownProvider": errors.LMUnsupportedModelError,
    "Timeout": errors.LMTimeoutError,
    "APITimeoutError": errors.LMTimeoutError,
    "TimeoutException": errors.LMTimeoutError,
    "TimeoutError": errors.LMTimeoutError,
    "RateLimitError": errors.LMRateLimitError,
    "RouterRateLimitError": errors.LMRateLimitError,
    "UnprocessableEntityError": errors.LMInvalidRequestError,
    "BadRequestError": errors.LMInvalidRequestError,
    "InvalidRequestError": errors.LMInvalidRequestError,
    "InternalServerError": errors.LMServerError,
    "ServiceUnavailableError": errors.LMServerError,
    "BadGatewayError": errors.LMServerError,
    "APIConnectionError": errors.LMTransportError,
    "TransportError": errors.LMTransportError,
    "ClientConnectionError": errors.LMTransportError,
    "ConnectionError": errors.LMTransportError,
    "APIResponseValidationError": errors.LMProviderError,
}
"""LMError classes by the name of an exception class or of one of its bases, the nearest base first."""

_BY_STATUS: Final[Mapping[int, type[LMError]]] = {
    401: errors.LMAuthError,
    402: errors.LMBillingError,
    403: errors.LMAuthError,
    404: errors.LMUnsupportedModelError,
    408: errors.LMTimeoutError,
    429: errors.LMRateLimitError,
}

_TOO_LONG: Final = (
    "context_length_exceeded",
    "maximum context length",
    "context window",
    "prompt is too long",
    "exceeds the maximum number of tokens",
)
"""Phrases of servers whose complaint LiteLLM does not recognise as one about the prompt's length."""

_OUR_SIDE: Final = (TypeError, AttributeError, LookupError, NameError, NotImplementedError, AssertionError)
"""Errors of code on this side, which LiteLLM hands on as if the connection had failed."""

_CONFLICT: Final = 409

ATTEMPTS_ATTRIBUTE: Final = "lmtrace_attempts"
"""Set on the error that ends a retried call: how often the request was sent."""


def wrap_provider_error(error: Exception, *, model: str, secrets: Mapping[str, Any] | None = None) -> LMError:
    """The `LMError` to be raised ``from error``; `error` itself when it is one already.

    Args:
        error: What the provider's library raised.
        model: The model that was asked.
        secrets: The credentials of the call, which must not stand in the message.
    """
    if isinstance(error, LMError):
        return error
    return classify(error)(
        _clean(message_of(error), secrets or {}),
        model=model,
        provider=_text(error, "llm_provider") or (model.split("/", 1)[0] if "/" in model else None),
        provider_code=_provider_code(error),
        status=status_of(error),
        request_id=_text(error, "request_id") or _header(error, "x-request-id") or _header(error, "request-id"),
        retry_after=retry_after(error),
        attempts=getattr(error, ATTEMPTS_ATTRIBUTE, 1),
    )


def _clean(message: str, secrets: Mapping[str, Any]) -> str:
    from lmtrace._secrets import Redactor

    return Redactor().text(message, secrets)


def is_transient(error: BaseException) -> bool:
    """Whether another try may succeed: network, timeouts, 408, 409, 429 and 5xx, but no local or lasting failure."""
    if isinstance(error, LMError):
        return isinstance(error, errors.RETRYABLE)
    if not isinstance(error, Exception) or isinstance(error, errors.LMTraceError):
        return False
    return status_of(error) == _CONFLICT or issubclass(classify(error), errors.RETRYABLE)


def classify(error: Exception) -> type[LMError]:
    """The class of `LMError` that stands for an exception of a provider library."""
    kind = _by_name(error) or _by_status(status_of(error))
    if kind is errors.LMInvalidRequestError and _is_too_long(error):
        return errors.ContextWindowExceededError
    if kind is errors.LMRateLimitError and _is_used_up(error):
        return errors.LMBillingError
    if kind in (errors.LMTransportError, errors.LMServerError) and _is_ours(error):
        return errors.LMUnexpectedError
    return kind


def _by_name(error: Exception) -> type[LMError] | None:
    return next((_BY_NAME[base.__name__] for base in type(error).__mro__ if base.__name__ in _BY_NAME), None)


def _by_status(status: int | None) -> type[LMError]:
    if status is None:
        return errors.LMUnexpectedError
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status < 400:
        return errors.LMProviderError
    return errors.LMInvalidRequestError if status < 500 else errors.LMServerError


def _is_too_long(error: Exception) -> bool:
    message = message_of(error).lower()
    return any(phrase in message for phrase in _TOO_LONG)


def _is_used_up(error: Exception) -> bool:
    """OpenAI's 429 that no waiting helps against."""
    return "insufficient_quota" in (_provider_code(error) or "") or "insufficient_quota" in message_of(error)


def _is_ours(error: Exception) -> bool:
    """Whether what looks like a failed connection wraps a plain bug or a wrong argument on this side."""
    return any(isinstance(cause, _OUR_SIDE) for cause in _causes(error)) and _header(error, "date") is None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause = error.__cause__ or error.__context__
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, OSError) or type(cause).__name__ in ("APIConnectionError", "ConnectError", "ReadError"):
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def message_of(error: BaseException) -> str:
    """The error in its own words; never raises."""
    try:
        message = getattr(error, "message", None)
        return message if isinstance(message, str) and message else str(error) or type(error).__name__
    except Exception:
        return type(error).__name__


def status_of(error: BaseException) -> int | None:
    """The HTTP status an exception carries, or None."""
    for holder in (error, getattr(error, "response", None)):
        status = getattr(holder, "status_code", None)
        if isinstance(status, int) or (isinstance(status, str) and status.isdigit()):
            return int(status)
    return None


def retry_after(error: BaseException) -> float | None:
    """Seconds the provider asks to wait (``retry-after-ms``, or ``retry-after`` as seconds or as a date), or None."""
    milliseconds = _header(error, "retry-after-ms")
    seconds = _header(error, "retry-after")
    try:
        if milliseconds is not None:
            return max(0.0, float(milliseconds) / 1000)
        return max(0.0, float(seconds)) if seconds is not None else None
    except ValueError:
        return _until(seconds)


def _until(date: str | None) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(date or "").timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _header(error: BaseException, name: str) -> str | None:
    for holder in (getattr(error, "response", None), error):
        headers = getattr(holder, "headers", None)
        value = headers.get(name) if isinstance(headers, Mapping) else None
        if value is not None:
            return str(value)
    return None


def _provider_code(error: BaseException) -> str | None:
    code = getattr(error, "code", None)
    if code is None:
        body = getattr(error, "body", None)
        code = body.get("code") if isinstance(body, Mapping) else None
    return None if code is None else str(code)


def _text(error: BaseException, name: str) -> str | None:
    value = getattr(error, name, None)
    return value if isinstance(value, str) and value else None
