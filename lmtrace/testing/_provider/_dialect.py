"""What a wire format is: how to read a question out of a body, and how to render an answer and an error into one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lmtrace.testing._provider._answer import Answer
from lmtrace.testing._provider._reply import Failure
from lmtrace.testing._provider._request import Ask

EVENT_STREAM = "text/event-stream; charset=utf-8"
JSON_LINES = "application/x-ndjson"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One endpoint of one provider."""

    name: str

    path: re.Pattern[str]
    """Matched at the end of the request's path, so that any base URL in front of it works."""

    ask: Callable[[Mapping[str, Any], Mapping[str, str]], Ask]
    """Reads the question out of the body and the named groups of the path."""

    body: Callable[[Answer], Mapping[str, Any]]

    events: Callable[[Answer], Iterator[bytes]]
    """The answer as a stream, one framed event at a time."""

    error: Callable[[Failure], Mapping[str, Any]]

    error_event: Callable[[Failure], bytes]
    """How an error is told when the stream has begun."""

    stream_type: str = EVENT_STREAM


def dumps(value: Any) -> bytes:
    """Compact JSON; everything beyond ASCII escaped, so that odd texts (lone surrogates) can be sent too."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def sse(data: Any, event: str | None = None) -> bytes:
    """One server-sent event."""
    name = f"event: {event}\n".encode() if event else b""
    return name + b"data: " + dumps(data) + b"\n\n"


def json_line(data: Any) -> bytes:
    """One line of JSON lines."""
    return dumps(data) + b"\n"


def word(words: Mapping[str, str], failure: Failure) -> str:
    """A provider's own words for a failure: its message, or what `words` has for its code or status."""
    if failure.message is not None:
        return failure.message
    by_code = words.get(failure.code or "")
    return by_code or words.get(str(failure.status)) or f"The request failed with status {failure.status}."
