"""The error tree, and which of its classes stands for which error of a provider library."""

from __future__ import annotations

import pickle
from typing import Any

import httpx
import litellm
import pytest

import lmtrace
from lmtrace import _errors as errors
from lmtrace._error_facts import retry_after
from lmtrace._provider_errors import is_transient, wrap_provider_error

WHO = {"llm_provider": "openai", "model": "m"}


def answered(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers=headers, request=httpx.Request("POST", "http://localhost/v1"))


def status_error(status: int) -> Exception:
    return httpx.HTTPStatusError("x", request=httpx.Request("GET", "http://localhost"), response=answered(status))


CASES: list[tuple[Exception, type[errors.LMError], bool]] = [
    (litellm.AuthenticationError("x", **WHO), errors.LMAuthError, False),
    (litellm.PermissionDeniedError("x", response=answered(403), **WHO), errors.LMAuthError, False),
    (litellm.RateLimitError("x", **WHO), errors.LMRateLimitError, True),
    (litellm.RateLimitError("You exceeded your quota: insufficient_quota", **WHO), errors.LMBillingError, False),
    (litellm.BadRequestError("x", **WHO), errors.LMInvalidRequestError, False),
    (litellm.BadRequestError("maximum context length is 10", **WHO), errors.ContextWindowExceededError, False),
    (litellm.ContextWindowExceededError("x", **WHO), errors.ContextWindowExceededError, False),
    (litellm.ContentPolicyViolationError("x", **WHO), errors.LMInvalidRequestError, False),
    (litellm.UnsupportedParamsError("x", **WHO), errors.LMUnsupportedFeatureError, False),
    (litellm.NotFoundError("x", **WHO), errors.LMUnsupportedModelError, False),
    (litellm.Timeout("x", **WHO), errors.LMTimeoutError, True),
    (litellm.InternalServerError("x", **WHO), errors.LMServerError, True),
    (litellm.ServiceUnavailableError("x", **WHO), errors.LMServerError, True),
    (litellm.BadGatewayError("x", **WHO), errors.LMServerError, True),
    (litellm.APIConnectionError("x", **WHO), errors.LMTransportError, True),
    (litellm.BudgetExceededError(2.0, 1.0), errors.LMBillingError, False),
    (litellm.APIError(529, "overloaded", **WHO), errors.LMServerError, True),
    (httpx.ConnectError("x"), errors.LMTransportError, True),
    (httpx.ReadTimeout("x"), errors.LMTimeoutError, True),
    (ConnectionResetError("x"), errors.LMTransportError, True),
    (TimeoutError("x"), errors.LMTimeoutError, True),
    (ValueError("x"), errors.LMUnexpectedError, False),
    *[(status_error(status), errors.LMInvalidRequestError, status == 409) for status in (400, 409, 413, 422)],
    *[(status_error(status), errors.LMServerError, True) for status in (500, 502, 503, 504, 529)],
    (status_error(402), errors.LMBillingError, False),
    (status_error(408), errors.LMTimeoutError, True),
    (status_error(429), errors.LMRateLimitError, True),
]


@pytest.mark.parametrize(
    ("error", "expected", "transient"), CASES, ids=[f"{n}-{type(c[0]).__name__}" for n, c in enumerate(CASES)]
)
def test_classes(error: Exception, expected: type[errors.LMError], transient: bool) -> None:
    """Every error of a provider library becomes one class of ours, and only what may pass is transient."""
    wrapped = wrap_provider_error(error, model="openai/m")
    assert type(wrapped) is expected
    assert is_transient(error) is transient
    assert is_transient(wrapped) is (transient and expected in errors.RETRYABLE)


def test_facts_are_kept() -> None:
    """Model, provider, status, code, request id, retry-after and the number of attempts are on the error."""
    response = answered(429, **{"retry-after": "7", "x-request-id": "req_1"})
    error = litellm.RateLimitError("slow down", "openai", "m", response=response)
    error.lmtrace_attempts = 4  # type: ignore[attr-defined]
    wrapped = wrap_provider_error(error, model="openai/m")
    assert (wrapped.model, wrapped.provider, wrapped.status) == ("openai/m", "openai", 429)
    assert (wrapped.retry_after, wrapped.request_id, wrapped.attempts) == (7.0, "req_1", 4)
    assert wrapped.code == "rate_limit"


def test_message_says_what_to_do() -> None:
    """The text has the model, the provider's words, the attempts and a way out."""
    text = str(errors.LMRateLimitError("Too many requests.", model="openai/m", attempts=3))
    assert text == "[openai/m] Too many requests. (after 3 attempts) Lower the concurrency, or raise num_retries of LM."


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry-after": "2"}, 2.0), ({"retry-after-ms": "250"}, 0.25), ({"retry-after": "soon"}, None), ({}, None)],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """The provider's wish is read in its forms, and not invented."""
    assert (
        retry_after(
            status_error(500)
            if not headers
            else httpx.HTTPStatusError(
                "x", request=httpx.Request("GET", "http://localhost"), response=answered(429, **headers)
            )
        )
        == seconds
    )


def test_retry_after_as_a_date() -> None:
    """A date that has passed means now."""
    error = httpx.HTTPStatusError(
        "x",
        request=httpx.Request("GET", "http://localhost"),
        response=answered(503, **{"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    )
    assert retry_after(error) == 0.0


def test_a_bug_on_our_side_is_no_connection_failure() -> None:
    """LiteLLM reports its own TypeErrors as a failed connection; they are not tried again."""
    error = litellm.APIConnectionError("'int' object is not subscriptable", **WHO)
    error.__cause__ = TypeError("'int' object is not subscriptable")
    assert type(wrap_provider_error(error, model="m")) is errors.LMUnexpectedError
    assert not is_transient(error)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("litellm.RateLimitError: RateLimitError: OpenAIException - Slow down", "Slow down"),
        ('litellm.BadRequestError: AnthropicException - {"type":"error","error":{"message":"too short"}}', "too short"),
        ('litellm.APIError: AnthropicError - b\'{"error":{"message":"Overloaded"}}\'', "Overloaded"),
        ('litellm.APIConnectionError: {"error":"busy"}. Handle with `litellm.APIConnectionError`.', "busy"),
        ("No key is set\nTraceback (most recent call last):\n  File x, line 1", "No key is set"),
        ("{not json", "{not json"),
        ("litellm.APIError: ", "litellm.APIError: "),
    ],
)
def test_provider_speaks(theirs: str, ours: str) -> None:
    """The message is what the provider said, without what LiteLLM wraps around it."""
    assert wrap_provider_error(Exception(theirs), model="m").message == ours


def test_call_raises_from_the_original(way: Any, script: Any) -> None:
    """A failed call raises one of our errors, with the provider's as its cause, and keeps no entry."""
    original = litellm.BadRequestError("no such thing", **WHO)
    lm = lmtrace.LM("openai/m", backend=script(original))
    with pytest.raises(errors.LMInvalidRequestError, match="no such thing") as caught:
        way.call(lm, "hi")
    assert caught.value.__cause__ is original
    assert lm.history == []


def test_errors_of_ours_pass(way: Any, script: Any) -> None:
    """An `LMError` that a backend raises itself is not wrapped again."""
    original = errors.LMBillingError("empty", model="openai/m")
    with pytest.raises(errors.LMBillingError) as caught:
        way.call(lmtrace.LM("openai/m", backend=script(original)), "hi")
    assert caught.value is original


def test_interrupts_pass(way: Any, script: Any) -> None:
    """What is no `Exception` leaves a call as it is: an interrupt, a replay's miss."""

    class Miss(BaseException):
        pass

    with pytest.raises(Miss):
        way.call(lmtrace.LM("openai/m", backend=script(Miss())), "hi")


def test_keys_are_not_in_messages(way: Any, script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of the call or of the environment that a provider quotes is not in our message."""
    monkeypatch.setenv("SOME_API_KEY", "canary-environment")
    original = litellm.AuthenticationError("bad key canary-argument or canary-environment", **WHO)
    lm = lmtrace.LM("openai/m", api_key="canary-argument", backend=script(original))
    with pytest.raises(errors.LMAuthError) as caught:
        way.call(lm, "hi")
    assert "canary" not in str(caught.value) + repr(caught.value) + repr(vars(caught.value))
    assert "bad key" in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        errors.LMRateLimitError("slow", model="openai/m", status=429, retry_after=2.0, attempts=3),
        errors.ContextWindowExceededError(model="openai/m"),
        errors.LMUnsupportedFeatureError("no", features=["finetuning"]),
        errors.UnknownOptionError("stroe", known=["store", "otlp"], source="LMTRACE_STROE"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_travel_between_processes(error: Exception) -> None:
    """An error is the same after pickling, as process pools do it."""
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_tree() -> None:
    """Whoever catches `LMTraceError` catches everything lmtrace raises on purpose; configuration errors are ValueErrors."""
    for name, value in vars(errors).items():
        if isinstance(value, type) and value.__module__ == errors.__name__:
            assert issubclass(value, errors.LMTraceError), name
            assert name in (errors.__doc__ or ""), f"{name} is not drawn in the docstring"
    assert issubclass(errors.SettingsError, ValueError)
    assert issubclass(errors.LMConfigurationError, ValueError)
