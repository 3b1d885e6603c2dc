"""LM calls of DSPy that somebody else may answer: a replay, in the place of the engine, of LiteLLM or of a custom LM.

What DSPy would do next becomes a backend, and the server decides whether to ask it. DSPy's cache and retries are inside of
that, so nothing of a replay passes through them; its callbacks, history, usage tracker, adapters and error handling are
outside and work as always. Only the outermost place of a call is served: what a live answer needs inside is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lmtrace import _serving
from lmtrace._data import LMRequest, LMResponse
from lmtrace._errors import LMError
from lmtrace._failures import failures
from lmtrace.integrations.dspy._calls import Call
from lmtrace.integrations.dspy._listeners import deaf
from lmtrace.integrations.dspy._raised import dspy_error
from lmtrace.integrations.dspy._sent import asend, send
from lmtrace.integrations.litellm._translate import UNREADABLE


class Original:
    """What DSPy would do, as a backend.

    Args:
        make: Does it.
        read: Reads what it returned.
    """

    def __init__(self, make: Callable[[], Any], read: Callable[[Any], LMResponse]) -> None:
        self._make = make
        self._read = read
        self.result: Any = None
        """What DSPy got, when it was asked."""
        self.answer: Any = None
        """The same as this backend gave it on."""
        self.for_cache = False
        """Whether a cache asks, which must not keep what nobody could read."""

    def complete(self, request: LMRequest, secrets: Mapping[str, Any]) -> Any:
        with _hearing(request):
            return self._given(self._make())

    async def acomplete(self, request: LMRequest, secrets: Mapping[str, Any]) -> Any:
        with _hearing(request):
            return self._given(await self._make())

    def stream(self, request: LMRequest, secrets: Mapping[str, Any]) -> Any:
        self.result = self._make()
        stream = self.answer = Sent()
        return stream

    async def astream(self, request: LMRequest, secrets: Mapping[str, Any]) -> Any:
        self.result = await self._make()
        stream = self.answer = Sent()
        return stream

    def _given(self, result: Any) -> Any:
        self.result = result
        try:
            response = self._read(result)
        except Exception as error:
            response = UNREADABLE
            failures.note("reading an answer of DSPy", error)
        self.answer = Unread() if self.for_cache and response is UNREADABLE else response
        return self.answer


def _hearing(request: LMRequest) -> AbstractContextManager[Any]:
    """A context in which DSPy streams only if the request says so; a session may want one whole that the program streams."""
    return nullcontext() if request.stream else deaf()


class Unread:
    """Stands for an answer of which only DSPy knows what it is."""


class Sent:
    """Stands for a stream whose chunks DSPy has sent to the program itself."""


def ask(call: Call, original: Original, give: Callable[[LMResponse], Any]) -> Any:
    """What DSPy goes on with: its own result, or one that `give` makes of a served answer.

    Raises:
        Exception: the original's own error, or one of DSPy's classes made of what was recorded.
    """
    server, request = call.begin_serving(), call.record.request
    original.for_cache = call.is_cached
    backend = server.serve(original)
    try:
        if call.is_whole:
            answer: Any = backend.complete(request, call.secrets)
        else:
            answer = backend.stream(request, call.secrets)
            if answer is not original.answer:
                answer = send(answer, request)
    except LMError as error:
        raise _as_dspy(error, request) from None
    return original.result if answer is original.answer else call.serve(answer, give)


async def aask(call: Call, original: Original, give: Callable[[LMResponse], Any]) -> Any:
    """The async twin of `ask`."""
    server, request = call.begin_serving(), call.record.request
    original.for_cache = call.is_cached
    backend = server.serve(original)
    try:
        if call.is_whole:
            answer: Any = await backend.acomplete(request, call.secrets)
        else:
            answer = await backend.astream(request, call.secrets)
            if answer is not original.answer:
                answer = await asend(answer, request)
    except LMError as error:
        raise _as_dspy(error, request) from None
    return original.result if answer is original.answer else call.serve(answer, give)


def _as_dspy(error: LMError, request: LMRequest) -> BaseException:
    """DSPy's class for an error that is raised again; any other passes as it is."""
    recorded = vars(error).get(_serving.RECORDED)
    return error if recorded is None else dspy_error(recorded, request)
