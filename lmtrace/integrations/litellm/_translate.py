"""The two doors of the translation: any LiteLLM answer to an `LMResponse`, and back to the class the caller expects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from lmtrace._data import LMOutput, LMResponse, ModelType
from lmtrace._failures import failures
from lmtrace.integrations.litellm import _mappings
from lmtrace.integrations.litellm._chat import from_chat, to_chat
from lmtrace.integrations.litellm._embedding import from_embedding, to_embedding
from lmtrace.integrations.litellm._responses import from_responses, to_responses
from lmtrace.integrations.litellm._text import from_text, to_text

_READERS: Final[dict[str, Callable[[Any], LMResponse]]] = {
    "ModelResponse": from_chat,
    "TextCompletionResponse": from_text,
    "ResponsesAPIResponse": from_responses,
    "EmbeddingResponse": from_embedding,
}

_WRITERS: Final[dict[ModelType, Callable[[LMResponse], Any]]] = {
    "chat": to_chat,
    "text": to_text,
    "responses": to_responses,
    "embedding": to_embedding,
}


UNREADABLE: Final = LMResponse(outputs=(LMOutput(),))
"""Stands for an answer of a form nobody knows: the call succeeded, and that is all there is to say."""


def from_litellm(obj: Any) -> LMResponse:
    """The normalised form of an answer of LiteLLM's chat, text, Responses or embeddings calls, nothing lost.

    A dictionary is read as the answer whose keys it has.

    Raises:
        TypeError: `obj` is none of these answers.
    """
    reader = _reader_of(obj)
    if reader is None:
        raise TypeError(f"{type(obj).__name__} is not an answer of LiteLLM; expected one of {', '.join(_READERS)}")
    return reader(obj)


def readable(obj: Any) -> LMResponse:
    """The same, or `UNREADABLE` for anything else; never an error, for the program has its answer."""
    if not is_readable(obj):
        return UNREADABLE
    try:
        return from_litellm(obj)
    except Exception as error:
        failures.note("reading an answer of LiteLLM", error)
        return UNREADABLE


def is_readable(obj: Any) -> bool:
    """Whether `from_litellm` can read `obj`."""
    return _reader_of(obj) is not None


def is_answer(obj: Any) -> bool:
    """Whether `obj` is an object of LiteLLM's own."""
    cls: Any = type(obj)
    return _reader(cls) is not None


def is_foreign(obj: Any) -> bool:
    """Whether `obj` is neither a stream nor of a class of LiteLLM's: the stand-in for an answer that a program's tests patch in.

    An object of LiteLLM's own that nobody here can read is another matter: that is a gap of ours.
    """
    cls: Any = type(obj)
    is_stream = hasattr(cls, "__next__") or hasattr(cls, "__anext__")
    return not is_stream and not any(base.__module__.partition(".")[0] == "litellm" for base in cls.__mro__)


def _reader_of(obj: Any) -> Callable[[Any], LMResponse] | None:
    cls: Any = type(obj)
    reader = _reader(cls)
    return _mappings.reader_of(obj) if reader is None and isinstance(obj, Mapping) else reader


@cache
def _reader(cls: Any) -> Callable[[Any], LMResponse] | None:
    """The translation for a class, found by name so that LiteLLM need not be imported here."""
    return next((_READERS[base.__name__] for base in cls.__mro__ if base.__name__ in _READERS), None)


def to_litellm(response: LMResponse, model_type: ModelType) -> Any:
    """The LiteLLM object a response stands for; equal to the one it was made from when it came from this interface."""
    return _WRITERS[model_type](response)
