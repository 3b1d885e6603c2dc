"""Recorded errors raised again: the public exception, with its status and the wait the provider asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from lmtrace import _serving
from lmtrace._data import LMRequest
from lmtrace._entry import CallError
from lmtrace._error_facts import plain_words
from lmtrace._errors import LMError, LMUnexpectedError
from lmtrace._provider_errors import class_of
from lmtrace_replay._recording import RecordedError


def public_error(recorded: RecordedError, request: LMRequest) -> LMError:
    """The `LMError` that `lmtrace.LM` raised, marked as one of a replay and with what was recorded beside it.

    An instrumentation whose caller expects another library's class makes that from the same facts. Only classes that
    lmtrace names itself are ever made: the recorded name is compared and never looked up.
    """
    kind = _classes().get(recorded.code or "") or class_of(recorded.type.rpartition(".")[2], recorded.status)
    error = kind(
        plain_words(recorded.message or ""),
        model=request.model,
        provider=request.model.split("/", 1)[0] if "/" in request.model else None,
        status=recorded.status,
        retry_after=recorded.retry_after,
    )
    facts = CallError(
        type=recorded.type,
        message=recorded.message,
        status=recorded.status,
        code=recorded.code,
        retry_after=recorded.retry_after,
    )
    setattr(error, _serving.SERVED_BY, "replay")
    setattr(error, _serving.RECORDED, facts)
    return error


@cache
def _classes() -> dict[str, type[LMError]]:
    """The classes of errors by their stable short names."""
    return {LMUnexpectedError.default_code: LMUnexpectedError} | {cls.default_code: cls for cls in _below(LMError)}


def _below(cls: type[LMError]) -> Iterator[type[LMError]]:
    for sub in cls.__subclasses__():
        if sub.__module__ == LMError.__module__:
            yield sub
            yield from _below(sub)
