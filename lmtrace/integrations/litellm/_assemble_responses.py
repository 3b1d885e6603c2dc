"""A streamed answer of the Responses interface: its last event holds the whole; before it, the deltas do."""

from __future__ import annotations

from typing import Any, Final

from lmtrace._data import LMChunk, LMOutput, LMPart, LMReasoningPart, LMResponse, LMTextPart, LMToolCallPart
from lmtrace.integrations.litellm import _models, _responses
from lmtrace.integrations.litellm._chunks import LiteLLMChunk

_FINAL: Final = ("response.completed", "response.incomplete", "response.failed")
_TEXT: Final = "response.output_text.delta"
_REASONING: Final = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")
_ARGUMENTS: Final = ("response.function_call_arguments.delta", "response.custom_tool_call_input.delta")


def is_event(raw: Any) -> bool:
    """Whether a chunk belongs to this interface."""
    return _kind(raw).startswith("response.")


def _kind(event: Any) -> str:
    """An event's type, which LiteLLM gives as an enumeration or as text."""
    kind = getattr(event, "type", "")
    return str(getattr(kind, "value", kind))


class ResponsesAssembly:
    """Collects the events of one stream."""

    __slots__ = ("_created", "_events", "_final", "_stream_cache_hit")

    def __init__(self, stream: Any) -> None:
        self._events: list[Any] = []
        self._created: Any = None
        self._final: Any = None
        self._stream_cache_hit = getattr(stream, "custom_llm_provider", None) == "cached_response"

    def add(self, event: Any) -> None:
        kind = _kind(event)
        if kind in _FINAL:
            self._final = event.response
        elif kind == "response.created":
            self._created = event.response
        else:
            self._events.append(event)

    def response(self) -> LMResponse | None:
        if self._final is not None:
            return self._whole(self._final)
        parts = list(self._partial_parts())
        created = self._created
        if created is None and not parts:
            return None
        return LMResponse(
            model=getattr(created, "model", None),
            outputs=[LMOutput(parts=parts)],
            response_id=getattr(created, "id", None),
        )

    def _whole(self, final: Any) -> LMResponse:
        response = _responses.from_responses(final)
        if not self._stream_cache_hit:
            return response
        from dataclasses import replace

        return replace(response, cache_hit=True)

    def _partial_parts(self) -> list[LMPart]:
        """What the deltas hold, one part for each item they belong to."""
        pieces: dict[tuple[Any, str], list[str]] = {}
        names: dict[Any, tuple[Any, Any]] = {}
        for event in self._events:
            kind, place = _kind(event), getattr(event, "output_index", 0)
            group = _group(kind)
            if group is not None:
                pieces.setdefault((place, group), []).append(str(event.delta))
            elif kind == "response.output_item.added":
                item = _models.plain(event.item)
                names[place] = (item.get("call_id"), item.get("name"))
        return [_part(group, "".join(texts), names.get(place)) for (place, group), texts in pieces.items()]

    @staticmethod
    def chunk(event: Any) -> LMChunk:
        """An event as a chunk."""
        group = _group(_kind(event))
        text = str(event.delta) if group is not None else ""
        return LiteLLMChunk(
            text=text if group == "text" else "", reasoning=text if group == "reasoning" else "", raw=event
        )


def _group(kind: str) -> str | None:
    return "text" if kind == _TEXT else "reasoning" if kind in _REASONING else "call" if kind in _ARGUMENTS else None


def _part(group: str, text: str, named: tuple[Any, Any] | None) -> LMPart:
    if group == "text":
        return LMTextPart(text)
    if group == "reasoning":
        return LMReasoningPart(text)
    call_id, name = named or (None, None)
    return LMToolCallPart(call_id, name, text)
