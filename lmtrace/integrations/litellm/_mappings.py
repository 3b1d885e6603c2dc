"""Answers that are dictionaries: from handlers of a program's own, and from what stands in for LiteLLM in its tests.

They have the keys of the answer they stand for, and are read as that object. Whatever is in them may be a dictionary of any
class, or an object of LiteLLM's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lmtrace._data import LMResponse
from lmtrace.integrations.litellm import _models
from lmtrace.integrations.litellm._chat import from_chat
from lmtrace.integrations.litellm._embedding import from_embedding
from lmtrace.integrations.litellm._responses import from_responses
from lmtrace.integrations.litellm._text import from_text


def reader_of(answer: Mapping[str, Any]) -> Callable[[Any], LMResponse] | None:
    """What reads a dictionary, or None where it is no answer."""
    choices = answer.get("choices")
    if isinstance(choices, list | tuple):
        is_text = answer.get("object") == "text_completion" or any(_has(choice, "text") for choice in choices)
        return _read_text if is_text else _read_chat
    if isinstance(answer.get("output"), list):
        return _read_responses
    return _read_embedding if isinstance(answer.get("data"), list) else None


def _has(choice: Any, name: str) -> bool:
    return name in choice if isinstance(choice, Mapping) else hasattr(choice, name)


def _read_chat(answer: Mapping[str, Any]) -> LMResponse:
    from litellm.types.utils import Choices, Message, ModelResponse

    def choice(given: Any, position: int) -> Any:
        values = {"finish_reason": None, "index": position, **_data(given)}
        return _models.build(Choices, {**values, "message": _models.build(Message, _message(values.get("message")))})

    return from_chat(_object(ModelResponse, answer, {"choices": _each(answer["choices"], choice)}))


def _message(given: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, **_data(given)}


def _read_text(answer: Mapping[str, Any]) -> LMResponse:
    from litellm.types.utils import TextChoices, TextCompletionResponse

    def choice(given: Any, position: int) -> Any:
        return _models.build(TextChoices, {"finish_reason": None, "index": position, **_data(given)})

    choices = _each(answer["choices"], choice)
    return from_text(_object(TextCompletionResponse, answer, {"object": "text_completion", "choices": choices}))


def _read_responses(answer: Mapping[str, Any]) -> LMResponse:
    from litellm.types.llms.openai import ResponsesAPIResponse

    return from_responses(_object(ResponsesAPIResponse, answer, {}))


def _read_embedding(answer: Mapping[str, Any]) -> LMResponse:
    from litellm.types.utils import EmbeddingResponse

    return from_embedding(_object(EmbeddingResponse, answer, {}))


def _object(cls: Any, answer: Mapping[str, Any], built: dict[str, Any]) -> Any:
    """The object of LiteLLM's that a dictionary stands for, with what LiteLLM noted on the dictionary."""
    made = _models.build(cls, _data({**answer, **dict.fromkeys(built)}) | built)
    hidden = _models.hidden_params(answer)
    if hidden is not None:
        made._hidden_params = hidden
    return made


def _each(choices: Any, read: Callable[[Any, int], Any]) -> list[Any]:
    return [read(choice, position) for position, choice in enumerate(choices)]


def _data(value: Any) -> dict[str, Any]:
    """A dictionary or an object of LiteLLM's as plain data, all the way down."""
    found = _plain(value)
    return found if isinstance(found, dict) else {}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return _models.plain(value)
