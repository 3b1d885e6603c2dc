"""`lmtrace.LM` as the LM of a DSPy program: the same policy, cache, retries and record, behind what DSPy expects of an LM.

It is a `BaseLM` in every version, because that is what programs check, and answers calls itself: DSPy's engines, retries and
cache have no part in it, so that nothing is recorded, retried or kept twice. What surrounds a call is DSPy's: callbacks,
histories, the usage tracker, listeners of a streamed program, and its classes of errors, by which its modules tell what to
do next. What the model can do is what `dspy.LM` says of it, so prompts are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import dspy
from dspy.dsp.utils.settings import settings
from dspy.utils.callback import with_callbacks

from lmtrace import _calls, _history, _lm
from lmtrace._data import LMRequest, LMResponse
from lmtrace._entry import HistoryEntry
from lmtrace._errors import LMError, LMTraceError, LMUnsupportedFeatureError
from lmtrace._provider_errors import wrap_provider_error
from lmtrace._state import CLASS_KEY
from lmtrace.integrations.dspy._raised import public_error
from lmtrace.integrations.dspy._sent import LiveChunks

_TYPED: Final = (
    "lmtrace.LM takes a prompt or messages; for typed requests use dspy.LM, which lmtrace.instrument() records."
)


class LM(_lm.LM, dspy.BaseLM):  # type: ignore[misc]  # DSPy is not typed
    """An `lmtrace.LM` for DSPy programs, with the same arguments: ``dspy.configure(lm=lmtrace.dspy.LM("openai/gpt-4o-mini"))``.

    Calls raise DSPy's errors. The state that a program is saved with is one that `dspy.LM` loads.
    """

    def __str__(self) -> str:
        return repr(self)

    @with_callbacks  # type: ignore[untyped-decorator]  # DSPy is not typed
    def __call__(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> list[str | dict[str, Any]]:
        with self._boundary(prompt):
            chunks = self._listeners()
            if chunks is None:
                return _calls.outputs_of(self.forward(prompt, messages, **kwargs))
            request, secrets = _calls.build_request(self, prompt, messages, kwargs, stream=True)
            with self._provider(secrets):
                stream = self._traced(request).stream(request, secrets)
                for chunk in stream:
                    chunks.send(chunk)
            return self._streamed(request, stream)

    @with_callbacks  # type: ignore[untyped-decorator]  # DSPy is not typed
    async def acall(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> list[str | dict[str, Any]]:
        """The async twin of calling the LM."""
        with self._boundary(prompt):
            chunks = self._listeners()
            if chunks is None:
                return _calls.outputs_of(await self.aforward(prompt, messages, **kwargs))
            request, secrets = _calls.build_request(self, prompt, messages, kwargs, stream=True)
            with self._provider(secrets):
                stream = await self._traced(request).astream(request, secrets)
                async for chunk in stream:
                    await chunks.asend(chunk)
            return self._streamed(request, stream)

    @contextmanager
    def _boundary(self, prompt: Any) -> Iterator[None]:
        """Around a call: errors leave as DSPy's."""
        try:
            if prompt is not None and not isinstance(prompt, str):
                raise LMUnsupportedFeatureError(_TYPED, model=self.model, features=["typed requests"])
            yield
        except LMError as error:
            public = public_error(error)
            if public is None:
                raise
            raise public from error

    @contextmanager
    def _provider(self, secrets: Any) -> Iterator[None]:
        """Around what is left to the provider: its errors become lmtrace's."""
        try:
            yield
        except LMTraceError:
            raise
        except Exception as error:
            raise wrap_provider_error(error, model=self.model, secrets=secrets) from error

    def _listeners(self) -> LiveChunks | None:
        """Who wants this answer piece by piece."""
        is_wanted = settings.send_stream is not None and self.model_type == "chat"
        return LiveChunks(self.model) if is_wanted else None

    def _streamed(self, request: LMRequest, stream: Any) -> list[str | dict[str, Any]]:
        self._finished(request, stream.response, stream.entry)
        return _calls.outputs_of(stream.response)

    # --- histories and usage ---------------------------------------------------------------------------------------

    def _finished(self, request: LMRequest, response: LMResponse, entry: HistoryEntry) -> None:
        if settings.usage_tracker and not response.cache_hit:
            settings.usage_tracker.add_usage(self.model, dict(entry["usage"] or {}))
        super()._finished(request, response, entry)

    def update_history(self, entry: Any) -> None:
        """Add an entry to DSPy's histories (of the process, of this LM, of the modules around) and to lmtrace's."""
        dspy.BaseLM.update_history(self, entry)
        _history.record([], entry)

    # --- what the model can do -------------------------------------------------------------------------------------

    def _like_dspy(self) -> Any:
        return dspy.LM(self.model, model_type=self.model_type)

    @property
    def supports_decision_requests(self) -> bool:
        """DSPy 3.4: not without an adapter, as `dspy.LM`."""
        return False

    @property
    def supports_function_calling(self) -> bool:
        """Whether the model calls tools, as `dspy.LM` says."""
        return bool(self._like_dspy().supports_function_calling)

    @property
    def supports_reasoning(self) -> bool:
        """Whether the model thinks before it answers, as `dspy.LM` says."""
        return bool(self._like_dspy().supports_reasoning)

    @property
    def supports_response_schema(self) -> bool:
        """Whether the model answers by a schema, as `dspy.LM` says."""
        return bool(self._like_dspy().supports_response_schema)

    @property
    def supported_params(self) -> set[str]:
        """The parameters the model knows, as `dspy.LM` says."""
        return set(self._like_dspy().supported_params)

    # --- state -----------------------------------------------------------------------------------------------------

    def for_dspy(self) -> LM:
        """This LM."""
        return self

    def dump_state(self) -> dict[str, Any]:
        """What a program is saved with: plain data without credentials, from which DSPy makes a `dspy.LM`."""
        return {name: value for name, value in super().dump_state().items() if name != CLASS_KEY}


def adapted(lm: _lm.LM) -> LM:
    """The same LM as DSPy takes it, with the same history."""
    made = object.__new__(LM)
    made.__dict__.update({**lm.__getstate__(), "kwargs": dict(lm.kwargs), "callbacks": list(lm.callbacks)})
    return made
