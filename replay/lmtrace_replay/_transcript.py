"""What a program asked its models, as text for people: a title for each call, a heading for each role, the words indented.

A transcript is compared with the one of the last run, so nothing in it may differ by itself: dates, uuids and the ids of tool
calls are replaced, the latter two by numbers that keep apart what was apart. Answers are not part of it; they belong to the
cassette. Control characters are written as escapes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from lmtrace._data import LMRequest
from lmtrace._keys import LEFT_OUT
from lmtrace_replay._patterns import UUIDS, dates

Matcher = Callable[[str], str]
"""Gets a text of a request and returns what stands in the transcript instead."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def transcript(requests: Iterable[LMRequest], matcher: Matcher | None = None) -> str:
    """All requests in their order; ends with a newline unless there are none.

    Args:
        requests: What was asked.
        matcher: Applied to every text before dates, uuids and ids of tool calls are replaced.
    """
    writer = _Writer(matcher or str)
    return "\n".join("\n".join(writer.call(number, request)) + "\n" for number, request in enumerate(requests, 1))


class _Writer:
    """Remembers the numbers it gave to uuids and tool calls, which go through all calls of one transcript."""

    def __init__(self, matcher: Matcher) -> None:
        self._matcher = matcher
        self._numbers: dict[str, dict[str, int]] = {}

    def call(self, number: int, request: LMRequest) -> Iterator[str]:
        plain = {
            name: value for name, value in sorted(request.kwargs.items()) if name not in LEFT_OUT and value is not None
        }
        small = [
            f"{name}={_short(value)}" for name, value in plain.items() if not isinstance(value, (Mapping, list, tuple))
        ]
        rollout = [f"rollout_id={_short(request.rollout_id)}"] if request.rollout_id is not None else []
        kind = [] if request.model_type == "chat" else [request.model_type]
        yield "  ".join([f"# {number}", request.model, *kind, *small, *rollout])
        for name, value in plain.items():
            if isinstance(value, (Mapping, list, tuple)):
                yield from self._section(name, [_json(value)])
        yield from self._asked(request)

    def _asked(self, request: LMRequest) -> Iterator[str]:
        asked = request.prompt if request.messages is None else request.messages
        for item in asked if isinstance(asked, (list, tuple)) else [asked]:
            if isinstance(item, Mapping) and ("role" in item or "content" in item):
                yield from self._message(item)
            elif item is not None:
                yield from self._section("input", [item if isinstance(item, str) else _json(item)])

    def _message(self, message: Mapping[str, Any]) -> Iterator[str]:
        role = str(message.get("role", "?"))
        if message.get("name"):
            role += f" {message['name']}"
        if message.get("tool_call_id"):
            role += f" {self._tool_id(message['tool_call_id'])}"
        texts = list(_content(message.get("content")))
        for call in message.get("tool_calls") or ():
            function = call.get("function") if isinstance(call, Mapping) else None
            if isinstance(function, Mapping):
                texts.append(f"{self._tool_id(call.get('id'))} {function.get('name')}({function.get('arguments', '')})")
            else:
                texts.append(_json(call))
        yield from self._section(role, texts)

    def _section(self, title: str, texts: Sequence[str]) -> Iterator[str]:
        yield f"{self._clean(title)}:"
        for text in texts:
            yield from (f"    {line}".rstrip(" ") for line in self._clean(self._matcher(text)).split("\n"))

    def _clean(self, text: str) -> str:
        text = UUIDS.sub(lambda found: self._number("uuid", found[0].lower()), text)
        for known in self._numbers.get("call", ()):
            text = text.replace(known, self._number("call", known))
        return visible(dates(text).replace("\r\n", "\n"))

    def _tool_id(self, value: Any) -> str:
        return self._number("call", str(value))

    def _number(self, kind: str, value: str) -> str:
        numbers = self._numbers.setdefault(kind, {})
        return f"<{kind} {numbers.setdefault(value, len(numbers) + 1)}>"


def visible(text: str) -> str:
    """`text` with escapes in the place of control characters, but for newlines and tabs."""
    return _CONTROL.sub(
        lambda found: f"\\x{ord(found[0]):02x}" if found[0] < "\x7f" else f"\\u{ord(found[0]):04x}", text
    )


def _content(content: Any) -> Iterator[str]:
    for part in content if isinstance(content, (list, tuple)) else [content]:
        if isinstance(part, str):
            yield part
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            yield part["text"]
        elif part is not None:
            yield _json(part)


def _short(value: Any) -> str:
    return value if isinstance(value, str) and re.fullmatch(r"[\w.:/-]+", value) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(_brief(value), indent=2, ensure_ascii=False, sort_keys=True, default=_named)


def _named(value: Any) -> str:
    """Classes (response formats) by name; anything else by type, because a repr may hold an address."""
    return value.__qualname__ if isinstance(value, type) else f"<{type(value).__qualname__}>"


def _brief(value: Any) -> Any:
    """`value` with inline media named by their digest."""
    if isinstance(value, Mapping):
        return {str(name): _brief(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_brief(item) for item in value]
    return _media(value) if isinstance(value, str) and len(value) > 200 else value


def _media(text: str) -> str:
    kind, comma, data = text.partition(";base64,")
    if not comma:
        kind, data = "base64", text
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return text
    return f"<{kind.removeprefix('data:')}, {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()[:12]}>"
