"""Request parameters as span attributes: one table, and the conversions to the conventions' value types.

Parameters come as users and frameworks write them, so every conversion takes anything and answers None for what has no
meaning as the attribute; None is then left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from lmtrace import _semconv as names
from lmtrace import _wire

_INT64: Final = 2**63


def _double(value: Any) -> float | None:
    if isinstance(value, (bool, str, bytes)):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _integer(value: Any) -> int | None:
    if type(value) is int and -_INT64 <= value < _INT64:
        return value
    number = _double(value)
    if number is None or not number.is_integer() or not -_INT64 <= number < _INT64:
        return None
    return int(value)


def _count(value: Any) -> int | None:
    """The number of choices; one is what everybody asks for and is left out."""
    number = _integer(value)
    return None if number == 1 else number


def _text(value: Any) -> str | None:
    return _clean(value) if isinstance(value, str) else None


def _texts(value: Any) -> list[str] | None:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        return None
    return [_clean(item) for item in items if isinstance(item, str)]


def _clean(text: str) -> str:
    """The text without lone surrogates, which no exporter can encode."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _effort(value: Any) -> str | None:
    """The level in the Responses API's ``reasoning={"effort": …}``."""
    return _text(value.get("effort")) if isinstance(value, Mapping) else _text(value)


def identifier(value: Any) -> str:
    """An id of the caller's as text: numbers as they are written, anything but texts and numbers as JSON."""
    if isinstance(value, str):
        return _clean(value)
    short = isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**64)
    return str(value) if short else _wire.dumps(value).decode()


def _output_type(value: Any) -> str | None:
    """`gen_ai.output.type` of a ``response_format``: a type, a schema or a class."""
    if isinstance(value, type):
        return "json"
    kind = value.get("type") if isinstance(value, Mapping) else None
    return {"text": "text", "json_object": "json", "json_schema": "json"}.get(str(kind))


def _text_format(value: Any) -> str | None:
    """The same of the Responses API's ``text={"format": …}``."""
    return _output_type(value.get("format")) if isinstance(value, Mapping) else None


def _modality(value: Any) -> str | None:
    kinds = value if isinstance(value, (list, tuple)) else ()
    return "speech" if "audio" in kinds else "image" if "image" in kinds else None


_Parameter = tuple[str, type | None, Callable[[Any], Any]]

PARAMETERS: Final[dict[str, _Parameter]] = {
    "temperature": (names.REQUEST_TEMPERATURE, float, _double),
    "top_p": (names.REQUEST_TOP_P, float, _double),
    "frequency_penalty": (names.REQUEST_FREQUENCY_PENALTY, float, _double),
    "presence_penalty": (names.REQUEST_PRESENCE_PENALTY, float, _double),
    "top_k": (names.REQUEST_TOP_K, None, _integer),
    "max_tokens": (names.REQUEST_MAX_TOKENS, None, _integer),
    "max_completion_tokens": (names.REQUEST_MAX_TOKENS, None, _integer),
    "max_output_tokens": (names.REQUEST_MAX_TOKENS, None, _integer),
    "seed": (names.REQUEST_SEED, None, _integer),
    "n": (names.REQUEST_CHOICE_COUNT, None, _count),
    "stop": (names.REQUEST_STOP_SEQUENCES, None, _texts),
    "stop_sequences": (names.REQUEST_STOP_SEQUENCES, None, _texts),
    "reasoning_effort": (names.REQUEST_REASONING_LEVEL, None, _effort),
    "reasoning": (names.REQUEST_REASONING_LEVEL, None, _effort),
    "previous_response_id": (names.REQUEST_PREVIOUS_RESPONSE, None, _text),
    "response_format": (names.OUTPUT_TYPE, None, _output_type),
    "text": (names.OUTPUT_TYPE, None, _text_format),
    "modalities": (names.OUTPUT_TYPE, None, _modality),
    "dimensions": (names.EMBEDDINGS_DIMENSION_COUNT, None, _integer),
    "encoding_format": (names.REQUEST_ENCODING_FORMATS, None, _texts),
    "rollout_id": (names.ROLLOUT_ID, None, identifier),
}
"""For each request parameter: its attribute, the type that needs no conversion, and the conversion."""
