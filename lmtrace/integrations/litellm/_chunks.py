"""Chunks of LiteLLM's streams as plain data, and back: what a recording keeps of them.

Most chunks are a piece of text and nothing else, and are kept as that. What the whole answer says as well (id, time, model)
is left out and filled in again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lmtrace._data import LMChunk, LMResponse
from lmtrace.integrations.litellm import _models

_OF_ANSWER: Final = frozenset({"id", "created", "model", "object", "system_fingerprint"})
_PLAIN_DELTA: Final[tuple[set[str], ...]] = ({"content"}, {"content", "role"}, {"role"}, set())


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteLLMChunk(LMChunk):
    """A chunk that knows the plain form of LiteLLM's own."""

    def to_wire(self) -> dict[str, Any]:
        """The JSON form, with LiteLLM's own data where that says more than text."""
        wire = LMChunk.to_wire(self)
        data = _event_data(self.raw) if _models.is_model(self.raw) and hasattr(self.raw, "type") else _data(self.raw)
        return wire if data is None else {**wire, "data": data}


def _event_data(raw: Any) -> dict[str, Any]:
    """An event of the Responses interface. The final answer is in the recording itself."""
    fields = _without_none(_models.plain(raw))
    fields["type"] = str(getattr(fields["type"], "value", fields["type"]))
    if fields["type"] in _FINAL:
        fields.pop("response", None)
    return fields


_FINAL: Final = ("response.completed", "response.incomplete", "response.failed")


def _data(raw: Any) -> dict[str, Any] | None:
    fields = {name: value for name, value in _models.plain(raw).items() if name not in _OF_ANSWER and value is not None}
    if type(raw).__name__ == "TextCompletionResponse" and not (fields.get("usage") or {}).get("total_tokens"):
        fields.pop("usage", None)  # zeros that LiteLLM puts into every chunk
    choices = [_without_none(choice) for choice in fields.get("choices") or ()]
    if fields.keys() == {"choices"} and len(choices) == 1 and _is_plain(choices[0]):
        return None
    return {**fields, "choices": choices}


def _without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, dict) else value
        for name, value in fields.items()
        if value is not None
    }


def _is_plain(choice: Mapping[str, Any]) -> bool:
    """Whether a choice is a piece of text, or of an assistant's message, and no more."""
    if choice.keys() <= {"index", "text"}:
        return True
    return choice.keys() <= {"index", "delta"} and set(choice.get("delta", {})) in _PLAIN_DELTA


class Rebuilder:
    """Makes LiteLLM's chunks of one stream again.

    Args:
        model: The model that was asked, as LiteLLM's chunks name it.
        response: The whole answer.
    """

    def __init__(self, model: str, response: LMResponse | None) -> None:
        self._response = response
        data = response.provider_data if response is not None and response.provider_data is not None else {}
        self._common = {
            "id": (response.response_id if response is not None else None) or "replayed",
            "created": data.get("created", 0),
            "model": model.rpartition("/")[2],
        }
        self._fingerprint = data.get("system_fingerprint")
        self._model = model
        self._begun: set[int] = set()

    def chat(self, chunk: LMChunk, data: Mapping[str, Any] | None) -> Any:
        """A `ModelResponseStream`."""
        from litellm.types.utils import ModelResponseStream, Usage

        given: dict[str, Any] = dict(data) if data is not None else {"choices": [self._plain_choice(chunk)]}
        choices = [self._choice(choice) for choice in given.pop("choices", ())]
        if isinstance(given.get("usage"), dict):
            given["usage"] = Usage(**given["usage"])
        return ModelResponseStream(
            **self._common,
            system_fingerprint=self._fingerprint,
            object="chat.completion.chunk",
            choices=choices,
            **given,
        )

    def _plain_choice(self, chunk: LMChunk) -> dict[str, Any]:
        delta: dict[str, Any] = {} if chunk.index in self._begun else {"role": "assistant"}
        if chunk.reasoning:
            delta["reasoning_content"] = chunk.reasoning
        return {"index": chunk.index, "delta": {**delta, "content": chunk.text}}

    def _choice(self, choice: Mapping[str, Any]) -> Any:
        from litellm.types.utils import ChoiceLogprobs, Delta, StreamingChoices

        self._begun.add(choice.get("index", 0))
        given = {**choice, "delta": Delta(**choice.get("delta", {}))}
        if isinstance(given.get("logprobs"), dict):
            given["logprobs"] = _models.build(ChoiceLogprobs, given["logprobs"])
        return StreamingChoices(**given)

    def text(self, chunk: LMChunk, data: Mapping[str, Any] | None) -> Any:
        """A `TextCompletionResponse`."""
        from litellm.types.utils import TextChoices, TextCompletionResponse

        given = dict(data) if data is not None else {"choices": [{"index": chunk.index, "text": chunk.text}]}
        choices = [TextChoices(**choice) for choice in given.pop("choices", ())]
        return TextCompletionResponse(**self._common, object="text_completion", choices=choices, **given)

    def event(self, chunk: LMChunk, data: Mapping[str, Any] | None) -> Any:
        """An event of the Responses interface."""
        from litellm.llms.openai.responses.transformation import OpenAIResponsesAPIConfig

        from lmtrace.integrations.litellm._responses import to_responses

        given = dict(data) if data is not None else {**_TEXT_EVENT, "delta": chunk.text}
        if given["type"] in _FINAL and self._response is not None:
            given["response"] = to_responses(self._response)
        logging: Any = None  # not used for this
        config: Any = OpenAIResponsesAPIConfig
        return config().transform_streaming_response(self._model, given, logging)


_TEXT_EVENT: Final = {"type": "response.output_text.delta", "item_id": "", "output_index": 0, "content_index": 0}
