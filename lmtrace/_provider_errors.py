"""From an exception of a provider library to `LMError`, without importing that library.

Exceptions are recognised by the names of their classes and by their HTTP status, because those are what LiteLLM, the
OpenAI client, httpx and aiohttp share and keep stable. One classification serves both the error the user sees and the
decision to try again, so the two cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from lmtrace import _errors as errors
from lmtrace._error_facts import (
    chain,
    message_of,
    plain_words,
    provider_code,
    request_id,
    retry_after,
    status_of,
    text_of,
)
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

_TOO_LONG: Final = re.compile(
    r"context_length_exceeded|maximum context length|context window|prompt is too long|exceeds the maximum number of tokens"
    r"|exceeds the available context size",
    re.IGNORECASE,
)
"""Complaints about the prompt's length that LiteLLM does not recognise as such."""

_NO_KEY: Final = re.compile(
    r"missing (\w+ ){0,3}(credentials|api[ _]key)|api_key client option must be set|no key is set", re.IGNORECASE
)
_NO_PROVIDER: Final = re.compile(r"llm provider not provided", re.IGNORECASE)

_OUR_SIDE: Final = (TypeError, AttributeError, LookupError, NameError, NotImplementedError, AssertionError)
"""Errors of code on this side, which LiteLLM hands on as if the connection or the server had failed."""

_HTTP_ERRORS: Final = frozenset({"HTTPStatusError", "APIStatusError", "ClientResponseError"})
"""Classes that exist only when a server has answered."""

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
    kind = classify(error)
    return kind(
        _clean(message_of(error), secrets or {}),
        model=model,
        provider=text_of(error, "llm_provider") or (model.split("/", 1)[0] if "/" in model else None),
        provider_code=provider_code(error),
        status=None if kind in _UNANSWERED or _is_garbled(error) else status_of(error),
        request_id=request_id(error),
        retry_after=retry_after(error),
        attempts=getattr(error, ATTEMPTS_ATTRIBUTE, 1),
    )


_UNANSWERED: Final = frozenset({errors.LMTransportError, errors.LMUnexpectedError, errors.LMNotConfiguredError})
"""Failures without an answer; LiteLLM gives them status 500 all the same."""


def _clean(message: str, secrets: Mapping[str, Any]) -> str:
    from lmtrace._redactor import Redactor

    return Redactor().text(plain_words(message), secrets)


def is_transient(error: BaseException) -> bool:
    """Whether another try may succeed: network, timeouts, 408, 409, 429 and 5xx, but no local or lasting failure."""
    if isinstance(error, LMError):
        return isinstance(error, errors.RETRYABLE)
    if not isinstance(error, Exception) or isinstance(error, errors.LMTraceError):
        return False
    return status_of(error) == _CONFLICT or issubclass(classify(error), errors.RETRYABLE)


def classify(error: Exception) -> type[LMError]:
    """The class of `LMError` that stands for an exception of a provider library."""
    status = status_of(error)
    kind = _by_name(error) or _by_status(status)
    if kind is errors.LMServerError and status is not None and status < 500:
        kind = _by_status(status)  # LiteLLM's error for broken streams is a server's, whatever the server said
    if _is_garbled(error):
        return errors.LMServerError
    if kind is errors.LMInvalidRequestError:
        return _refined_request(error)
    if kind is errors.LMRateLimitError:
        return errors.LMBillingError if _is_used_up(error) else kind
    if kind in (errors.LMTransportError, errors.LMServerError, errors.LMAuthError):
        return _refined_failure(error, kind)
    return kind


def public_class(error: Exception) -> type[LMError]:
    """The class in which `lmtrace.LM` raises an error."""
    return type(error) if isinstance(error, LMError) else classify(error)


def class_of(name: str, status: int | None) -> type[LMError]:
    """The class that stands for an exception of which only the name and the HTTP status are known."""
    return _BY_NAME.get(name) or _by_status(status)


def _by_name(error: BaseException) -> type[LMError] | None:
    return next((_BY_NAME[base.__name__] for base in type(error).__mro__ if base.__name__ in _BY_NAME), None)


def _by_status(status: int | None) -> type[LMError]:
    if status is None:
        return errors.LMUnexpectedError
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status < 400:
        return errors.LMProviderError
    return errors.LMInvalidRequestError if status < 500 else errors.LMServerError


def _refined_request(error: Exception) -> type[LMError]:
    """LiteLLM calls every 4xx it has no class for a bad request."""
    message = message_of(error)
    if _TOO_LONG.search(message):
        return errors.ContextWindowExceededError
    if _NO_PROVIDER.search(message):
        return errors.LMUnsupportedModelError
    return _by_status(status_of(error) or 400)


def _is_used_up(error: Exception) -> bool:
    """OpenAI's 429 that no waiting helps against."""
    return "insufficient_quota" in (provider_code(error) or "") or "insufficient_quota" in message_of(error)


def _refined_failure(error: Exception, kind: type[LMError]) -> type[LMError]:
    """LiteLLM calls almost everything that went wrong without an answer an internal error of the server."""
    causes = list(chain(error))[1:]
    if any(map(_is_http, causes)):
        return kind
    if _NO_KEY.search(message_of(error)):
        return errors.LMNotConfiguredError
    network = [
        found for cause in causes if (found := _by_name(cause)) in (errors.LMTransportError, errors.LMTimeoutError)
    ]
    if network:
        return errors.LMTransportError if errors.LMTransportError in network else errors.LMTimeoutError
    return errors.LMUnexpectedError if any(isinstance(cause, _OUR_SIDE) for cause in causes) else kind


def _is_garbled(error: Exception) -> bool:
    """Whether the provider's answer was no JSON, which LiteLLM reports in a different way for each provider."""
    causes = list(chain(error))[1:]
    return any(type(cause).__name__ == "JSONDecodeError" for cause in causes) and not any(map(_is_http, causes))


def _is_http(error: BaseException) -> bool:
    return any(base.__name__ in _HTTP_ERRORS for base in type(error).__mro__)
