"""What an exception of a provider library tells: its words, status, headers and codes, wherever it keeps them.

LiteLLM's exceptions have lost most of this; the client's own exception, which they came from, still has it. So every
question is put to the whole chain of errors that belongs to the call. Nothing here raises.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Final

_LONGEST_CHAIN: Final = 16

_BEFORE: Final = re.compile(r"^(?:litellm\.\w+: |\w+Error: |\w+(?:Exception|Error)(?: \w+)? - (?:error - )?)+")
"""What LiteLLM puts before the provider's words: names of classes, several times over."""

_AFTER: Final = re.compile(
    r"\s*(?:Handle with `litellm\.\w+`\.|File an issue if litellm error.*|Traceback \(most recent call last\):.*)",
    re.DOTALL,
)
"""What it puts behind them."""


def chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and the errors it came from, as far as they belong to the call.

    The last one's context may be an error that the user was handling when the call was made. Its traceback begins in a
    frame that is not in the traceback of any error of the call; those begin where the call does.
    """
    frames: set[int] = set()
    current: BaseException | None = error
    for _ in range(_LONGEST_CHAIN):
        if current is None:
            return
        yield current
        frames.update(_frames(current.__traceback__))
        current = current.__cause__ or _inner_context(current, frames)


def _inner_context(error: BaseException, frames: set[int]) -> BaseException | None:
    context = error.__context__
    if context is None or context.__traceback__ is None:
        return None
    return context if id(context.__traceback__.tb_frame) in frames else None


def _frames(traceback: TracebackType | None) -> Iterator[int]:
    while traceback is not None:
        yield id(traceback.tb_frame)
        traceback = traceback.tb_next


def message_of(error: BaseException) -> str:
    """The error in its own words; never raises."""
    try:
        message = getattr(error, "message", None)
        return message if isinstance(message, str) and message else str(error) or type(error).__name__
    except Exception:
        return type(error).__name__


def plain_words(message: str) -> str:
    """What the provider said, out of LiteLLM's message about it; the message itself when nothing else is in it."""
    text = _AFTER.sub("", _BEFORE.sub("", message)).strip()
    return _from_json(text) or text or message


def _from_json(text: str) -> str | None:
    """The message in an error body of OpenAI's, Anthropic's, Gemini's or Ollama's form."""
    body = text[2:-1] if text.startswith("b'") else text.rstrip(".")
    if not body.startswith("{"):
        return None
    try:
        error = json.loads(body).get("error")
    except (ValueError, AttributeError, RecursionError):
        return None
    words = error.get("message") if isinstance(error, dict) else error
    return words if isinstance(words, str) and words else None


def status_of(error: BaseException) -> int | None:
    """The HTTP status an exception carries, or None."""
    for holder in (error, getattr(error, "response", None)):
        status = getattr(holder, "status_code", None)
        if isinstance(status, int) or (isinstance(status, str) and status.isdigit()):
            return int(status)
    return None


def retry_after(error: BaseException) -> float | None:
    """Seconds the provider asks to wait (``retry-after-ms``, or ``retry-after`` as seconds or as a date), or None."""
    milliseconds = _header(error, "retry-after-ms")
    seconds = _header(error, "retry-after")
    try:
        if milliseconds is not None:
            return max(0.0, float(milliseconds) / 1000)
        return max(0.0, float(seconds)) if seconds is not None else None
    except ValueError:
        return _until(seconds)


def _until(date: str | None) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(date or "").timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _header(error: BaseException, name: str) -> str | None:
    """A header of the answer; LiteLLM's errors often lack it where the client's own, which they come from, have it."""
    for one in chain(error):
        for holder in (getattr(one, "response", None), one):
            headers = getattr(holder, "headers", None)
            value = headers.get(name) if isinstance(headers, Mapping) else None
            if value is not None:
                return str(value)
    return None


def request_id(error: BaseException) -> str | None:
    """The provider's id of the request, or None."""
    named = next((found for one in chain(error) if (found := text_of(one, "request_id"))), None)
    return named or _header(error, "x-request-id") or _header(error, "request-id")


def provider_code(error: BaseException) -> str | None:
    """The provider's word for the error; a repeated HTTP status is none."""
    for one in chain(error):
        code = getattr(one, "code", None)
        if isinstance(code, str) and code and not code.isdigit():
            return code
    return None


def text_of(error: BaseException, name: str) -> str | None:
    """An attribute of the error that holds a text, or None."""
    value = getattr(error, name, None)
    return value if isinstance(value, str) and value else None
