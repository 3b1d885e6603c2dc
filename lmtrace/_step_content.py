"""What a step was given and what came of it, as its span shows them where content is wanted there.

An agent's are messages and what a retriever found are documents, as the conventions ask; everything else is the JSON of the
plain data. What is not inputs or outputs and yet content, such as the description of a tool, comes from a callable, so that it
costs nothing where it is not wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from lmtrace import _semconv as names
from lmtrace import _wire
from lmtrace._content import encode
from lmtrace._redactor import Redactor

Further = Callable[[], Mapping[str, Any]]
"""Gives further content attributes: texts as they are, anything else as JSON."""

_ROLES: Final = {names.INPUT_MESSAGES: "user", names.OUTPUT_MESSAGES: "assistant"}
_NOTHING: Final[Mapping[str, Any]] = {}


def shown(attribute: str, data: Any, known: Mapping[str, Any]) -> str:
    """The text of an attribute.

    Args:
        attribute: Its name, which decides the form.
        data: Inputs or outputs, redacted.
        known: The other attributes of the span.
    """
    if attribute == names.RETRIEVAL_DOCUMENTS:
        return encode(_documents(data))[0]
    if attribute == names.RETRIEVAL_QUERY:
        return _query(data)
    role = _ROLES.get(attribute)
    if role is None:
        return encode([data])[0][1:-1]
    message: dict[str, Any] = {"role": role, "parts": [{"type": "text", "content": _text(data)}]}
    if role == "assistant":
        message["finish_reason"] = next(iter(known.get(names.RESPONSE_FINISH_REASONS, ())), "stop")
    return encode([message])[0]


def further(content: Further, redactor: Redactor) -> dict[str, str]:
    """The further content of a step, redacted and cut."""
    return {name: _further(redactor.data(_wire.dumps(value), _NOTHING)) for name, value in content().items()}


def _further(value: Any) -> str:
    return value if isinstance(value, str) else encode(value)[0]


def _text(data: Any) -> str:
    """The only field as it is, several as JSON; how an agent came to its answer is in the spans below it."""
    fields = {name: value for name, value in data.items() if name != "trajectory"} if isinstance(data, dict) else {}
    if len(fields) == 1:
        (data,) = fields.values()
    elif fields:
        data = fields
    return data if isinstance(data, str) else orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS).decode()


def _query(data: Any) -> str:
    """What was searched for: the argument of that name, or the first."""
    if isinstance(data, dict):
        data = data.get("query", next(iter(data.get("args") or ()), data))
    return _text(data)


def _documents(data: Any) -> list[dict[str, Any]]:
    """Each thing found with its text, and with the id and the score it came with."""
    found = data.get("passages", data) if isinstance(data, dict) else data
    return [_document(item) for item in (found if isinstance(found, list) else [found])]


def _document(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        return {"content": item}
    number, score = item.get("id", item.get("pid")), item.get("score")
    made = {"id": None if number is None else str(number), "score": score if _is_number(score) else None}
    text = item.get("long_text", item.get("text", item.get("content")))
    return {
        name: value for name, value in {**made, "content": item if text is None else text}.items() if value is not None
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
