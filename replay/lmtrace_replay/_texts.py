"""A request as the texts a person compares: one for each message, and one for each parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from lmtrace import _wire
from lmtrace._data import LMRequest
from lmtrace._keys import LEFT_OUT


@dataclass(frozen=True, slots=True)
class Message:
    """One message as text."""

    role: str
    text: str


def messages_of(request: LMRequest) -> list[Message]:
    """The messages of a request; its prompt as the only one where it has none."""
    given = request.prompt if request.messages is None else request.messages
    if not isinstance(given, (list, tuple)):
        return [_message(given)]
    return [_message(item) for item in given]


def _message(item: Any) -> Message:
    if isinstance(item, str):
        return Message("user", item)
    if not isinstance(item, dict):
        return Message("input", compact(item))
    role = str(item.get("role") or item.get("type") or "input")
    content = item.get("content")
    rest = {name: value for name, value in item.items() if name not in {"role", "content"} and value is not None}
    said = content if isinstance(content, str) else "" if content is None else _parts(content)
    return Message(role, "\n".join(part for part in (said, compact(rest) if rest else "") if part))


def _parts(content: Any) -> str:
    """The parts of a message, each on its own line; text as it is."""
    if not isinstance(content, list):
        return compact(content)
    return "\n".join(
        part["text"] if isinstance(part, dict) and isinstance(part.get("text"), str) else compact(part)
        for part in content
    )


def compact(value: Any) -> str:
    """Any value as short JSON with sorted keys; texts as they are."""
    if isinstance(value, str):
        return value
    return orjson.dumps(orjson.loads(_wire.dumps(value)), option=orjson.OPT_SORT_KEYS).decode()


def parameters_of(request: LMRequest) -> dict[str, Any]:
    """What of the parameters is part of a request's identity, as plain JSON, so that equal ones are equal."""
    return {
        name: value if type(value) in _PLAIN else orjson.loads(_wire.dumps(value))
        for name, value in request.kwargs.items()
        if value is not None and name not in LEFT_OUT and not name.startswith("litellm_")
    }


_PLAIN = frozenset({str, int, float, bool})


def one_line(text: str, limit: int = 160) -> str:
    """`text` on one line, white space collapsed and cut."""
    line = " ".join(text[: 4 * limit].split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
