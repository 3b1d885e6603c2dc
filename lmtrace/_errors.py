"""The one error tree of lmtrace. Every message says what happened and what to do about it.

    LMTraceError
    ├── SettingsError (also a ValueError)       a setting or constructor option has a value that makes no sense
    │   └── UnknownOptionError                  an option that does not exist; names the nearest that does
    └── LMError                                 an LM call could not be made or did not succeed
        ├── LMConfigurationError (also a ValueError)
        │   └── LMNotConfiguredError            a key or an address is missing
        ├── LMUnsupportedFeatureError           the model, provider or lmtrace cannot do this
        ├── LMTransportError                    nothing came back: network, DNS, TLS
        ├── LMUnexpectedError                   the provider's library failed in an unknown way
        └── LMProviderError                     the provider answered with an error
            ├── LMAuthError
            ├── LMBillingError
            ├── LMRateLimitError
            ├── LMTimeoutError
            ├── LMServerError
            └── LMInvalidRequestError
                ├── ContextWindowExceededError
                └── LMUnsupportedModelError

Names, codes and the meaning of each class are DSPy's, so a handler written for `dspy.LM` needs only another import. How
an exception of a provider library becomes one of these is told by `lmtrace._provider_errors`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar


class LMTraceError(Exception):
    """The root of everything lmtrace raises on purpose."""


class SettingsError(LMTraceError, ValueError):
    """A setting or option has a value that makes no sense; the message names it and where it came from."""


class UnknownOptionError(SettingsError):
    """An option that does not exist.

    Args:
        name: The option as it was given.
        known: The options there are.
        source: Where it was given: a file, an environment variable, a call.
    """

    def __init__(self, name: str, *, known: Iterable[str] = (), source: str | None = None) -> None:
        self.name = name
        near = difflib.get_close_matches(name, sorted(known), 1, 0.0)
        self.nearest: str | None = near[0] if near else None
        """The valid option most like it."""
        self.source = source
        place = f" in {source}" if source else ""
        hint = f"; did you mean {self.nearest!r}?" if self.nearest else ""
        super().__init__(f"unknown option {name!r}{place}{hint}")

    def __reduce__(self) -> tuple[Any, ...]:
        known = [self.nearest] if self.nearest else []
        return _unknown_option, (self.name, known, self.source)


def _unknown_option(name: str, known: Iterable[str], source: str | None) -> UnknownOptionError:
    return UnknownOptionError(name, known=known, source=source)


class LMError(LMTraceError):
    """An LM call could not be made or did not succeed. Catch it for every such failure.

    Args:
        message: What happened, in the provider's words where there are some; free of credentials.
        code: Stable short name of the failure; that of the class unless given.
        model: The model that was asked.
        provider: Who serves it.
        provider_code: The provider's own code for the error.
        status: HTTP status, where there was one.
        request_id: The provider's id of the request, for its support.
        retry_after: Seconds to wait before another try, when the provider said so.
        attempts: How often the request was sent.
    """

    default_code: ClassVar[str] = "lm_error"
    hint: ClassVar[str] = ""
    """What to do about it, shown after the message."""

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        model: str | None = None,
        provider: str | None = None,
        provider_code: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        attempts: int = 1,
    ) -> None:
        self.message = message
        self.code = code or self.default_code
        self.model = model
        self.provider = provider
        self.provider_code = provider_code
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after
        self.attempts = attempts
        super().__init__(message)

    def __str__(self) -> str:
        tried = f"(after {self.attempts} attempts)" if self.attempts > 1 else ""
        message = self.message if not self.hint or self.message.endswith((".", "!", "?")) else f"{self.message}."
        parts = (f"[{self.model}]" if self.model else "", message, tried, self.hint)
        return " ".join(part for part in parts if part)


class LMConfigurationError(LMError, ValueError):
    """The LM was set up in a way that cannot work."""

    default_code = "configuration"


class LMNotConfiguredError(LMConfigurationError):
    """A key, an address or another part of the provider's configuration is missing."""

    default_code = "not_configured"
    hint = "Set the provider's environment variable, or pass api_key= (and api_base=) to LM."


class LMUnsupportedFeatureError(LMError):
    """The model, its provider or lmtrace does not have a feature that was asked for.

    Args:
        message: What is missing and what to do instead.
        features: Names of the missing features, such as ``"finetuning"``.
        issues: Detailed reasons, where there are some.
        **details: As for `LMError`.
    """

    default_code = "unsupported_feature"

    def __init__(
        self, message: str = "", *, features: Sequence[str] = (), issues: Sequence[str] = (), **details: Any
    ) -> None:
        self.features = list(features)
        self.issues = list(issues)
        super().__init__(message, **details)


class LMTransportError(LMError):
    """Nothing came back from the provider: network, DNS, TLS or a broken connection."""

    default_code = "transport"
    hint = "Check the network and api_base; a larger num_retries rides out short failures."


class LMUnexpectedError(LMError):
    """The provider's library failed in a way lmtrace does not know; the original error is the cause."""

    default_code = "unexpected"


class LMProviderError(LMError):
    """The provider answered with an error."""

    default_code = "provider"


class LMAuthError(LMProviderError):
    """The provider does not accept the credentials, or they do not allow this."""

    default_code = "auth"
    hint = "Check the key: the provider's environment variable, or api_key= of LM."


class LMBillingError(LMProviderError):
    """The account's credit, quota or budget is used up; trying again does not help."""

    default_code = "billing"
    hint = "Check plan, credit and budget with the provider."


class LMRateLimitError(LMProviderError):
    """Too many requests or tokens in a stretch of time; `retry_after` says how long to wait, when known."""

    default_code = "rate_limit"
    hint = "Lower the concurrency, or raise num_retries of LM."


class LMTimeoutError(LMProviderError):
    """No answer within the time limit."""

    default_code = "timeout"
    hint = "Pass a larger timeout= to LM."


class LMServerError(LMProviderError):
    """The provider failed while it handled the request."""

    default_code = "server"
    hint = "The failure is the provider's: try again later, or raise num_retries of LM."


class LMInvalidRequestError(LMProviderError):
    """The provider rejects the request as it is: a parameter, a message or the content."""

    default_code = "invalid_request"


class ContextWindowExceededError(LMInvalidRequestError):
    """The prompt is longer than the model can read."""

    default_code = "context_window_exceeded"
    hint = "Shorten the prompt, or ask a model with a larger context window."

    def __init__(self, message: str = "Context window exceeded.", **details: Any) -> None:
        super().__init__(message, **details)


class LMUnsupportedModelError(LMInvalidRequestError):
    """The provider does not have this model, or this account may not use it."""

    default_code = "unsupported_model"
    hint = "Check the name; LiteLLM's form is provider/model, as in openai/gpt-4o-mini."


RETRYABLE = (LMRateLimitError, LMTimeoutError, LMServerError, LMTransportError)
"""Failures that another try may not meet."""
