"""What a row says of an exception: its class, its text without secrets, its status, and the code `lmtrace.LM` gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmtrace import _serving
from lmtrace._entry import CallError, ServedBy
from lmtrace._errors import LMError
from lmtrace._redactor import Redactor


def call_error(error: BaseException, redactor: Redactor, secrets: Mapping[str, Any]) -> CallError:
    """The error of a call; of a recorded one that was raised again, what was recorded."""
    recorded: CallError | None = vars(error).get(_serving.RECORDED) if isinstance(error, LMError) else None
    if recorded is not None:
        return recorded
    code, delay = _public_facts(error)
    return CallError(
        type=type_name(error),
        message=redactor.text(_message(error), secrets),
        status=_status(error),
        code=code,
        retry_after=delay,
    )


def raised_by(error: BaseException) -> ServedBy | None:
    """Who raised an error that was not the provider's."""
    served_by: ServedBy | None = getattr(error, "__dict__", {}).get(_serving.SERVED_BY)
    return served_by


def type_name(error: BaseException) -> str:
    """The qualified name of the error's class; a built-in one goes without its module."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<the exception cannot be shown>"


def _public_facts(error: BaseException) -> tuple[str | None, float | None]:
    """The code of the error that `lmtrace.LM` raises, and how long the provider asked to wait."""
    from lmtrace._error_facts import retry_after
    from lmtrace._provider_errors import public_class

    if not isinstance(error, Exception):
        return None, None
    try:
        if isinstance(error, LMError):
            return error.code, error.retry_after
        return public_class(error).default_code, retry_after(error)
    except Exception:  # an exception that cannot be read
        return None, None


def _status(error: BaseException) -> int | None:
    try:
        status = getattr(error, "status_code", None) or getattr(error, "status", None)
    except Exception:
        return None
    return status if type(status) is int else None
