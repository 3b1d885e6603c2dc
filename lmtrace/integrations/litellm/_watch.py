"""One recorded call of LiteLLM made by a program, from its arguments to its answer.

Only the outermost call is recorded: LiteLLM's functions call each other (async ones sync ones in a thread, a Router the
functions, the Responses interface chat), and lmtrace.LM calls them too. What fails inside an outer call and is followed by
another try is an attempt of the outer call.

Whatever goes wrong in reading a call ends in `failures`, here and in the follower of a stream, and nowhere else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from opentelemetry import context

from lmtrace import _serving
from lmtrace._data import LMResponse, ModelType
from lmtrace._failures import failures
from lmtrace._record import CallRecord, active_call
from lmtrace._recorder import current
from lmtrace._semconv import INFERENCE_CONTEXT_KEY
from lmtrace.integrations.litellm import _streams
from lmtrace.integrations.litellm._asked import is_half_of_async, request_of
from lmtrace.integrations.litellm._served import Served
from lmtrace.integrations.litellm._translate import UNREADABLE, from_litellm, is_foreign, is_readable

records = True
"""Whether calls are recorded. Where not, the wrappers are in place for sessions that serve calls, and idle between them."""

_failed_inside: dict[int, BaseException | None] = {}
"""For each call of ours in flight, by identity of its record: the error of its latest inner call, if that failed."""


class Watch:
    """A call in flight; the function runs inside its `with`."""

    __slots__ = ("_model_type", "record")

    def __init__(self, record: CallRecord, model_type: ModelType) -> None:
        self.record = record
        self._model_type = model_type
        _failed_inside[id(record)] = None

    def __enter__(self) -> None:
        self.record.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.record.__exit__(kind, error, trace)
        if error is not None:
            self._forget()

    def returned(self, result: Any) -> Any:
        """Records an answer, or follows a stream to its end; gives back what the program gets."""
        if type(result) is Served:
            self._forget()
            return result.given(self.record)
        try:
            if is_readable(result):
                self._finish(from_litellm(result))
            elif is_foreign(result):
                self._finish(UNREADABLE)
            else:
                return _streams.follow(result, self.record, self._model_type, self._forget)
        except Exception as error:
            self._finish(UNREADABLE)
            failures.note("reading an answer of LiteLLM", error)
        return result

    def _finish(self, response: LMResponse) -> None:
        self._forget()
        self.record.finish(response)

    def _forget(self) -> None:
        _failed_inside.pop(id(self.record), None)


def begin(
    model_type: ModelType, args: tuple[Any, ...], kwargs: dict[str, Any], names: tuple[str, ...], router: Any = None
) -> Watch | None:
    """Begins to record a call; None where it belongs to another one or cannot be read, and simply has to be made."""
    if not records and _serving.current() is None:
        return None
    try:
        outer = active_call()
        if (outer is not None and outer.entry is None) or is_half_of_async(kwargs):
            return None  # an outer call that is over only left its context behind, as for callbacks of LiteLLM
        request, secrets = request_of(model_type, args, kwargs, names, router)
        return Watch(current().start(request, secrets), model_type)
    except Exception as error:
        if _serving.current() is not None:  # a call nobody can read must not reach the provider unseen
            raise
        failures.note("reading a call of LiteLLM", error)
        return None


class InnerCall:
    """Around a call that belongs to an outer one: its error is an attempt of the outer call, once that tries again."""

    __slots__ = ("_outer",)

    def __enter__(self) -> None:
        outer = active_call()
        self._outer = outer if outer is not None and id(outer) in _failed_inside else None
        if self._outer is not None:
            _note_attempt(self._outer, None)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and self._outer is not None:
            _failed_inside[id(self._outer)] = error


@contextmanager
def apart() -> Iterator[None]:
    """Leave the call this context belongs to, so that calls made inside are not taken for parts of it."""
    token = context.attach(context.set_value(INFERENCE_CONTEXT_KEY, None))
    try:
        yield
    finally:
        context.detach(token)


def retrying() -> None:
    """LiteLLM is about to retry: the error being handled is that of the attempt before."""
    outer = active_call()
    if outer is not None and id(outer) in _failed_inside:
        _note_attempt(outer, sys.exception())


def _note_attempt(outer: CallRecord, error: BaseException | None) -> None:
    """Tells the outer call that something inside it failed and is being tried again."""
    before = _failed_inside.get(id(outer))
    _failed_inside[id(outer)] = None
    failed = error or before
    if failed is not None:
        outer.attempt(failed)
