"""`lmtrace.LM`: the language model of DSPy's contract, on LiteLLM, without DSPy.

An LM is policy: it merges parameters, applies the rules of models, keeps the history and tells callbacks. Asking is left
to its backend, around which it puts retries and, outermost, the recorder: `TracedBackend(CacheBackend(RetryBackend(backend)))`.
The sync and the async way differ in their `await` only; what they share is in `lmtrace._calls`.

`forward` returns an `LMResponse` and not LiteLLM's object, as `dspy.LM` does: an answer that comes from a recording, or
from another backend, must not need LiteLLM. The provider's own fields are in `provider_data`.
"""

from __future__ import annotations

import copy as copy_module
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Self, TextIO

from lmtrace import _calls, _history, _options, _serving, _state, _untraced
from lmtrace._backend import Backend
from lmtrace._callbacks import Notices, callbacks_of
from lmtrace._data import LMRequest, LMResponse
from lmtrace._entry import HistoryEntry
from lmtrace._errors import LMConfigurationError, LMTraceError, LMUnsupportedFeatureError
from lmtrace._provider_errors import wrap_provider_error
from lmtrace._retry import RetryBackend
from lmtrace._serving import Deferred, Server
from lmtrace._stream import LMAsyncStream, LMStream

if TYPE_CHECKING:
    from lmtrace._traced import TracedBackend

    _Prepare = Callable[[LMRequest], bool]
    _Stack = tuple[Backend | None, int, Server | None, TracedBackend, _Prepare | None]

Messages = Sequence[Mapping[str, Any]]

_LIVE: Final = "_stack"

_FOR_DSPY: Final = (
    "DSPy's modules take lm.for_dspy() in the place of an lmtrace.LM: dspy.configure(lm=lm.for_dspy()). "
    "After lmtrace.instrument(), dspy.configure and dspy.context take the LM as it is."
)


class LM:
    """A language model to be called with a prompt or with messages.

    Args:
        model: The model as LiteLLM names it, ``provider/model``, for example ``openai/gpt-4o-mini``.
        model_type: The provider's interface: ``chat``, ``text`` or ``responses``.
        temperature: Sampling temperature; the provider's default when None.
        max_tokens: Limit of generated tokens for each answer; the provider's default when None.
        cache: Whether the answer to an identical earlier request may answer a call, from memory or from the store, and
            identical requests at the same time may share one call of the provider. See the setting `cache`.
        callbacks: Objects with `on_lm_start` and `on_lm_end`, as DSPy's are. See also the setting `callbacks`.
        num_retries: How often a request that failed in passing (network, timeout, rate limit, 5xx) is sent again, with
            exponentially growing pauses.
        provider: Kept for compatibility with `dspy.LM`; nothing here uses it.
        finetuning_model: Likewise.
        launch_kwargs: Likewise.
        train_kwargs: Likewise.
        use_developer_role: Send ``system`` messages as ``developer`` ones to the Responses API.
        backend: Who answers, instead of LiteLLM.
        **kwargs: Parameters of every request of this LM, LiteLLM's and the provider's own: `api_key`, `api_base`,
            `top_p`, `stop`, `tools` … `rollout_id` tells apart requests that are otherwise identical; it is kept in the
            history and not sent, and matters only at a temperature above 0.

    Raises:
        LMConfigurationError: the options contradict each other or the model's rules.
        UnknownOptionError: an option is misspelt.
    """

    def __init__(  # noqa: PLR0917 - the positions are DSPy's
        self,
        model: str,
        model_type: Literal["chat", "text", "responses"] = "chat",
        temperature: float | None = None,
        max_tokens: int | None = None,
        cache: bool = True,  # noqa: FBT001, FBT002
        callbacks: Sequence[Any] | None = None,
        num_retries: int = 3,
        provider: Any = None,
        finetuning_model: str | None = None,
        launch_kwargs: Mapping[str, Any] | None = None,
        train_kwargs: Mapping[str, Any] | None = None,
        use_developer_role: bool = False,  # noqa: FBT001, FBT002
        *,
        backend: Backend | None = None,
        **kwargs: Any,
    ) -> None:
        _options.check_names(kwargs)
        _options.check_model(model, model_type, num_retries)
        self.model = model
        self.model_type = model_type
        self.cache = cache
        self.callbacks: list[Any] = list(callbacks or ())
        self.num_retries = num_retries
        self.provider = provider
        self.finetuning_model = finetuning_model
        self.launch_kwargs: dict[str, Any] = dict(launch_kwargs or {})
        self.train_kwargs: dict[str, Any] = dict(train_kwargs or {})
        self.use_developer_role = use_developer_role
        self.backend = backend
        self.kwargs = _options.initial_kwargs(model, temperature, max_tokens, kwargs)
        """The parameters of every request."""
        self.history: list[Any] = []
        """The finished calls of this LM, oldest first, as `HistoryEntry` objects."""
        self._warned_zero_temp_rollout = False
        self._stack: _Stack | None = None
        _calls.warn_zero_temperature(self, self.kwargs)

    # --- calls -----------------------------------------------------------------------------------------------------

    def __call__(
        self, prompt: str | None = None, messages: Messages | None = None, **kwargs: Any
    ) -> list[str | dict[str, Any]]:
        """The candidates the model gives, one unless `n` asks for more.

        Args:
            prompt: The text of a single user message.
            messages: A conversation, in OpenAI's form; `prompt` is then not used.
            **kwargs: Parameters of this call, before those of the LM. With ``stream=True`` the answer is streamed and
                returned when it is whole.

        Returns:
            For each candidate its text, or, when there is more than text, a dictionary with `text` and those of
            `reasoning_content`, `logprobs`, `tool_calls` and `citations` that there are.

        Raises:
            LMError: the call did not succeed; the provider's error is the cause.
        """
        callbacks = callbacks_of(self.callbacks)
        if not callbacks:
            return _calls.outputs_of(self.forward(prompt, messages, **kwargs))
        with Notices(callbacks, self, _inputs(prompt, messages, kwargs)) as notices:
            outputs = notices.outputs = _calls.outputs_of(self.forward(prompt, messages, **kwargs))
        return outputs

    async def acall(
        self, prompt: str | None = None, messages: Messages | None = None, **kwargs: Any
    ) -> list[str | dict[str, Any]]:
        """The async twin of calling the LM."""
        callbacks = callbacks_of(self.callbacks)
        if not callbacks:
            return _calls.outputs_of(await self.aforward(prompt, messages, **kwargs))
        with Notices(callbacks, self, _inputs(prompt, messages, kwargs)) as notices:
            outputs = notices.outputs = _calls.outputs_of(await self.aforward(prompt, messages, **kwargs))
        return outputs

    def forward(self, prompt: str | None = None, messages: Messages | None = None, **kwargs: Any) -> LMResponse:
        """The whole normalised response. Arguments and errors are those of calling the LM; callbacks are not told."""
        request, secrets = _calls.build_request(self, prompt, messages, kwargs)
        if request.stream:
            return _drained(LMStream(self, request, secrets, None))
        try:
            response, entry = self._traced(request).call(request, secrets)
        except LMTraceError:
            raise
        except Exception as error:
            raise wrap_provider_error(error, model=self.model, secrets=secrets) from error
        self._finished(request, response, entry)
        return response

    async def aforward(self, prompt: str | None = None, messages: Messages | None = None, **kwargs: Any) -> LMResponse:
        """The async twin of `forward`."""
        request, secrets = _calls.build_request(self, prompt, messages, kwargs)
        if request.stream:
            return await _adrained(LMAsyncStream(self, request, secrets, None))
        try:
            response, entry = await self._traced(request).acall(request, secrets)
        except LMTraceError:
            raise
        except Exception as error:
            raise wrap_provider_error(error, model=self.model, secrets=secrets) from error
        self._finished(request, response, entry)
        return response

    def stream(self, prompt: str | None = None, messages: Messages | None = None, **kwargs: Any) -> LMStream:
        """The answer piece by piece: iterate the result for text, then read its `response`.

        The request is sent when the first piece is asked for. Arguments and errors are those of calling the LM.
        """
        return LMStream(*self._streaming(prompt, messages, kwargs))

    def astream(self, prompt: str | None = None, messages: Messages | None = None, **kwargs: Any) -> LMAsyncStream:
        """The async twin of `stream`: iterate the result with ``async for``, without awaiting it first."""
        return LMAsyncStream(*self._streaming(prompt, messages, kwargs))

    def _streaming(
        self, prompt: str | None, messages: Messages | None, kwargs: dict[str, Any]
    ) -> tuple[LM, LMRequest, dict[str, Any], Notices | None]:
        inputs = _inputs(prompt, messages, dict(kwargs))
        request, secrets = _calls.build_request(self, prompt, messages, kwargs, stream=True)
        callbacks = callbacks_of(self.callbacks)
        return self, request, secrets, Notices(callbacks, self, inputs) if callbacks else None

    def _traced(self, request: LMRequest) -> TracedBackend | _untraced.UntracedBackend:
        """The backend with retries and recording around it; put together again when an attribute has changed."""
        stack, server = self._stack, _serving.current()
        if stack is None or stack[0] is not self.backend or stack[1] != self.num_retries or stack[2] is not server:
            if not _untraced.can_record():
                live = RetryBackend(self.backend or Deferred(_default_backend), self.num_retries)
                return _untraced.UntracedBackend(live if server is None else server.serve(live))
            stack = self._stack = (self.backend, self.num_retries, server, *self._built(server))
        if stack[4] is not None and stack[4](request):
            self._stack = (*stack[:4], None)
        return stack[3]

    def _built(self, server: Server | None) -> tuple[TracedBackend, _Prepare | None]:
        from lmtrace._traced import TracedBackend

        if server is not None:  # what is served may never need the provider's library
            live = RetryBackend(self.backend or Deferred(_default_backend), self.num_retries)
            return TracedBackend(server.serve(live)), None
        if self.backend is not None or "litellm" in sys.modules:
            asked = RetryBackend(self.backend or _default_backend(), self.num_retries)
            return TracedBackend(_cached(asked, self.backend)), None
        provider = Deferred(_default_backend)
        cached = _cached(RetryBackend(provider, self.num_retries), None)
        return TracedBackend(cached), functools.partial(_prepared, provider, cached)

    def _finished(self, request: LMRequest, response: LMResponse, entry: HistoryEntry) -> None:
        _calls.warn_truncated(response, request)
        self.update_history(entry)

    # --- history ---------------------------------------------------------------------------------------------------

    def update_history(self, entry: Mapping[str, Any]) -> None:
        """Add an entry to the history of the process, of this LM and of the modules that made the call.

        Args:
            entry: A `HistoryEntry`, or a dictionary with the keys of one.
        """
        _history.record(self.history, entry)

    def inspect_history(self, n: int = 1, file: TextIO | None = None) -> None:
        """Print the newest `n` calls of this LM to `file`, or to standard output."""
        from lmtrace._render import print_history

        print_history(self.history[-n:] if n > 0 else [], file)

    # --- copies and state ------------------------------------------------------------------------------------------

    def copy(self, **kwargs: Any) -> Self:
        """An LM like this one with other attributes or parameters, and with an empty history.

        Args:
            **kwargs: What differs. A parameter of None is removed.
        """
        _options.check_names(kwargs)
        other = copy_module.copy(self)
        other.history = []
        other.callbacks = list(self.callbacks or ())
        other.kwargs = dict(self.kwargs)
        for name, value in kwargs.items():
            if self._is_attribute(name):
                setattr(other, name, value)
            if name in other.kwargs or not self._is_attribute(name):
                other._set_parameter(name, value)
        other._warned_zero_temp_rollout = False
        return other

    def _is_attribute(self, name: str) -> bool:
        return name in vars(self) or (hasattr(self, name) and not callable(getattr(self, name)))

    def _set_parameter(self, name: str, value: Any) -> None:
        if value is None:
            self.kwargs.pop(name, None)
        else:
            self.kwargs[name] = value

    def dump_state(self) -> dict[str, Any]:
        """What `load_state` needs to build this LM again: plain data, without credentials, backend and callbacks."""
        return _state.dump(self)

    @classmethod
    def load_state(cls, state: Mapping[str, Any], *, allow_custom_lm_class: bool = False) -> LM:
        """The LM that a state describes, which `dump_state` of this class or of `dspy.LM` gave.

        Args:
            state: The state.
            allow_custom_lm_class: Whether to import the class the state names. Only for states you trust: importing a
                module runs it.

        Raises:
            LMConfigurationError: the state names another class and that is not allowed, or it is no LM's state.
        """
        return _state.load(cls, state, allow_custom_lm_class=allow_custom_lm_class)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), _LIVE: None}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.model} ({self.model_type})>"

    # --- DSPy's modules, which take no LM but those of its own classes ------------------------------------------------

    def __str__(self) -> str:
        """As `repr`; once DSPy is imported with what it takes instead, because DSPy up to 3.3 quotes this when it refuses it."""
        return f"{self!r}. {_FOR_DSPY}" if "dspy" in sys.modules else repr(self)

    @property
    def supports_decision_requests(self) -> bool:
        """What DSPy 3.4 asks an LM that is none of its own before it refuses it.

        Raises:
            LMConfigurationError: DSPy is imported; the message says what it takes instead.
        """
        if "dspy" in sys.modules:
            raise LMConfigurationError(_FOR_DSPY, model=self.model)
        return False

    def for_dspy(self) -> Any:
        """This LM as DSPy programs take it: ``dspy.configure(lm=lm.for_dspy())``. Both have one history.

        Raises:
            LMTraceError: DSPy is not installed, or in a version that is not supported.
        """
        from lmtrace.integrations.dspy._versions import require

        require()
        from lmtrace.integrations.dspy._lm import adapted

        return adapted(self)

    # --- what belongs to providers that train and serve --------------------------------------------------------------

    def finetune(
        self,
        train_data: Sequence[Mapping[str, Any]],
        train_data_format: Any = None,
        train_kwargs: Mapping[str, Any] | None = None,
    ) -> NoReturn:
        """Not supported yet.

        Raises:
            LMUnsupportedFeatureError: always.
        """
        self._unsupported("finetuning", "Fine-tune with the provider's own tools and pass the new model's name to LM.")

    def reinforce(self, train_kwargs: Mapping[str, Any] | None = None) -> NoReturn:
        """Not supported yet.

        Raises:
            LMUnsupportedFeatureError: always.
        """
        self._unsupported("reinforce", "Train with a library made for it and pass the new model's name to LM.")

    def launch(self, launch_kwargs: Mapping[str, Any] | None = None) -> NoReturn:
        """Not supported yet.

        Raises:
            LMUnsupportedFeatureError: always.
        """
        self._unsupported("launch", "Start the model's server yourself and pass its address as api_base.")

    def kill(self, launch_kwargs: Mapping[str, Any] | None = None) -> NoReturn:
        """Not supported yet.

        Raises:
            LMUnsupportedFeatureError: always.
        """
        self._unsupported("kill", "Stop the model's server the way it was started.")

    def infer_provider(self) -> NoReturn:
        """Not supported yet.

        Raises:
            LMUnsupportedFeatureError: always.
        """
        self._unsupported(
            "infer_provider", "Calls need no provider object; LiteLLM finds the provider by the model's name."
        )

    def _unsupported(self, feature: str, instead: str) -> NoReturn:
        provider = self.model.split("/", 1)[0] if "/" in self.model else None
        raise LMUnsupportedFeatureError(
            f"lmtrace.LM does not support {feature} yet. {instead}",
            model=self.model,
            provider=provider,
            features=[feature],
        )


def _inputs(prompt: str | None, messages: Messages | None, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call, as DSPy's callbacks get them."""
    return {"prompt": prompt, "messages": messages, "kwargs": kwargs}


def _default_backend() -> Backend:
    from lmtrace.integrations.litellm import LiteLLMBackend

    return LiteLLMBackend()


def _prepared(provider: Deferred, cached: Any, request: LMRequest) -> bool:
    """Import LiteLLM, which takes seconds, before a call is timed that needs it; a cached answer does not."""
    if cached.holds(request):
        return False
    provider.prepare()
    return True


def _cached(inner: Backend, owner: Backend | None) -> Backend:
    from lmtrace._compose import cached

    return cached(inner, owner)


def _drained(stream: LMStream) -> LMResponse:
    for _ in stream:
        continue
    return stream.response


async def _adrained(stream: LMAsyncStream) -> LMResponse:
    async for _ in stream:
        continue
    return stream.response
