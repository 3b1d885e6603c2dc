"""What may be passed to `LM`, and what a misspelt option looks like.

Parameters lmtrace does not know belong to the provider and are handed on, because providers add new ones every month. One
that is nearly the name of an option of `LM` is a slip, though: handed on it would have no effect, or a strange one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from lmtrace._data import ModelType
from lmtrace._errors import LMConfigurationError, UnknownOptionError

OPTIONS: Final = (
    "model", "model_type", "temperature", "max_tokens", "cache", "callbacks", "num_retries", "provider",
    "finetuning_model", "launch_kwargs", "train_kwargs", "use_developer_role", "backend", "rollout_id",
)  # fmt: skip
"""The options of `LM` and of its calls."""

MODEL_TYPES: Final[tuple[ModelType, ...]] = ("chat", "text", "responses")

_LIKENESS: Final = 0.8

_OF_PROVIDERS: Final = frozenset({"models", "max_retries", "fallbacks"})
"""Parameters of LiteLLM and of providers that look like slips and are none."""

_accepted: set[str] = {*OPTIONS, *_OF_PROVIDERS}

_REASONING_MODEL: Final = re.compile(
    r"""(?: o[1345] (?:-(?:mini|nano|pro))? (?:-\d{4}-\d\d-\d\d)?   # o1, o3-mini, o4-mini-2025-04-16
        | gpt-5 (?!-chat) (?:-.*)?                                   # gpt-5, gpt-5-nano, but not gpt-5-chat
        )""",
    re.VERBOSE,
)

LEAST_REASONING_TOKENS: Final = 16_000


def check_names(names: Iterable[str]) -> None:
    """Refuse a misspelt option.

    Raises:
        UnknownOptionError: a name is nearly that of an option of `LM`; the message has both.
    """
    if not _accepted.issuperset(names):
        for name in names:
            _check_name(name)


def _check_name(name: str) -> None:
    if name in _accepted:
        return
    if difflib.get_close_matches(name, OPTIONS, 1, _LIKENESS):
        raise UnknownOptionError(name, known=OPTIONS)
    if len(_accepted) < 10_000:
        _accepted.add(name)


def is_reasoning_model(model: str) -> bool:
    """Whether `model` is one of OpenAI's reasoning models, whoever serves it."""
    return _REASONING_MODEL.fullmatch(model.rsplit("/", 1)[-1].lower()) is not None


def check_model(model: Any, model_type: Any, num_retries: Any) -> None:
    """Refuse what no call could work with.

    Raises:
        LMConfigurationError: a value is of a wrong type or not one of those allowed.
    """
    if not isinstance(model, str) or not model:
        raise LMConfigurationError(f"model must be a name such as 'openai/gpt-4o-mini', not {model!r}.")
    if model_type not in MODEL_TYPES:
        allowed = ", ".join(map(repr, MODEL_TYPES))
        raise LMConfigurationError(f"model_type must be one of {allowed}, not {model_type!r}.", model=model)
    if not isinstance(num_retries, int) or num_retries < 0:
        raise LMConfigurationError(f"num_retries must be a whole number from 0 up, not {num_retries!r}.", model=model)


def initial_kwargs(
    model: str, temperature: float | None, max_tokens: int | None, kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The default parameters of an LM's requests, under the names its model knows.

    Raises:
        LMConfigurationError: OpenAI's reasoning models do not take such a temperature or so few tokens.
    """
    limit = "max_tokens"
    if is_reasoning_model(model):
        limit = "max_completion_tokens"
        _check_reasoning(model, temperature, max_tokens)
    given = {"temperature": temperature, limit: max_tokens}
    if max_tokens is not None and kwargs.get(limit, max_tokens) != max_tokens:
        raise LMConfigurationError(f"max_tokens and {limit} say different things; pass one of them.", model=model)
    merged = {**given, **kwargs}
    if merged.get("rollout_id") is None:
        merged.pop("rollout_id", None)
    return merged


def _check_reasoning(model: str, temperature: float | None, max_tokens: int | None) -> None:
    if (temperature and temperature != 1.0) or (max_tokens and max_tokens < LEAST_REASONING_TOKENS):
        raise LMConfigurationError(
            f"OpenAI's reasoning models take temperature=1.0 or None and max_tokens >= {LEAST_REASONING_TOKENS} or None, "
            f"as in LM({model!r}, temperature=1.0, max_tokens={LEAST_REASONING_TOKENS}).",
            model=model,
        )
