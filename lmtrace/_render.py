"""History entries as a person reads them: who said what, what came back, and what it cost.

Entries may be `HistoryEntry` objects or dictionaries of DSPy's shape. What models and users wrote is untrusted: on a
terminal its control characters are shown as escapes, never sent. Media are summarised, not printed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TextIO

_RED: Final = "31"
_GREEN: Final = "32"
_BLUE: Final = "34"

Paint = Callable[[str, str], str]
"""A text in a colour, or as it is."""


def print_history(entries: Sequence[Mapping[str, Any]], file: TextIO | None = None) -> None:
    """Print `entries`, oldest first.

    Args:
        entries: What to print.
        file: Where to; standard output when None, in colours when that is a terminal and NO_COLOR is not set.
    """
    out = sys.stdout if file is None else file
    terminal = _is_terminal(out)
    paint = _colours(
        visible=_visible if terminal else str, on=terminal and file is None and not os.environ.get("NO_COLOR")
    )
    lines = [line for entry in entries for line in render(entry, paint)]
    out.write(_encodable("\n".join([*lines, "", ""]), getattr(out, "encoding", None)))


def _is_terminal(out: TextIO) -> bool:
    try:
        return out.isatty()
    except (AttributeError, ValueError):  # an object with `write` only, or a closed one
        return False


def _visible(text: str) -> str:
    from lmtrace._visible import visible

    return visible(text)


def _colours(*, visible: Callable[[str], str], on: bool) -> Paint:
    def paint(text: str, colour: str = "") -> str:
        shown = visible(text)
        return f"\x1b[{colour}m{shown}\x1b[0m" if on and colour else shown

    return paint


def _encodable(text: str, encoding: str | None) -> str:
    """`text` with what the output cannot hold as escapes: printing must not fail on what a model said."""
    encoding = encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def render(entry: Mapping[str, Any], paint: Paint) -> Iterator[str]:
    """The lines of one entry."""
    yield ""
    yield paint(_headline(entry), _BLUE)
    for message in _messages(entry):
        yield ""
        yield from _message(message, paint)
    outputs = entry.get("outputs") or []
    for number, output in enumerate(outputs, 1):
        yield ""
        yield from _output(output, f" {number} of {len(outputs)}" if len(outputs) > 1 else "", paint)
    error = getattr(entry, "error", None)
    if error is not None:
        yield ""
        yield paint("Error:", _RED)
        yield paint(f"{error.type}: {error.message or ''}", "")


def _headline(entry: Mapping[str, Any]) -> str:
    kwargs = entry.get("kwargs") or {}
    facts = [str(entry.get("model") or "unknown model"), *_figures(entry)]
    if kwargs.get("rollout_id") is not None:
        facts.append(f"rollout {kwargs['rollout_id']}")
    served_by = getattr(entry, "served_by", "provider")
    if served_by != "provider":
        facts.append(f"from {served_by}")
    return f"[{entry.get('timestamp', 'unknown time')}] " + " · ".join(facts)


def _figures(entry: Mapping[str, Any]) -> Iterator[str]:
    from lmtrace._cli import _text as texts

    milliseconds = getattr(entry, "duration_ms", None)
    if milliseconds is not None:
        yield texts.duration(milliseconds)
    given, generated = _tokens(entry)
    if given is not None or generated is not None:
        yield f"{texts.tokens(given, generated)} tokens"
    yield f"cost {texts.money(entry.get('cost'))}"


def _tokens(entry: Mapping[str, Any]) -> tuple[int | None, int | None]:
    usage = entry.get("usage") or {}
    given = usage.get("prompt_tokens", usage.get("input_tokens"))
    generated = usage.get("completion_tokens", usage.get("output_tokens"))
    return given, generated


def _messages(entry: Mapping[str, Any]) -> Sequence[Any]:
    messages = entry.get("messages")
    if not messages:
        return [{"role": "user", "content": entry.get("prompt")}]
    return messages if isinstance(messages, (list, tuple)) else [{"role": "user", "content": messages}]


def _message(message: Any, paint: Paint) -> Iterator[str]:
    role = _field(message, "role") or _field(message, "type") or "user"
    yield paint(f"{str(role).capitalize()} message:", _RED)
    yield from _content(_field(message, "content"), paint)
    for call in _field(message, "tool_calls") or ():
        yield paint(_tool_call(call), "")


def _content(content: Any, paint: Paint) -> Iterator[str]:
    if content is None:
        return
    if isinstance(content, str):
        yield paint(content.strip(), "")
        return
    for part in content if isinstance(content, (list, tuple)) else [content]:
        text = part if isinstance(part, str) else _field(part, "text")
        yield paint(text.strip(), "") if isinstance(text, str) else paint(_media(part), _BLUE)


def _media(part: Any) -> str:
    """An image, a recording, a file, or anything else, in one line."""
    kind = str(_field(part, "type") or type(part).__name__)
    body = _field(part, kind)
    if kind in ("image_url", "input_image"):
        image = _field(part, "image_url")
        return f"<image: {_address(image if isinstance(image, str) else _field(image, 'url'))}>"
    if kind in ("input_audio", "audio"):
        return f"<audio: {_field(body, 'format') or 'unknown format'}, {_length(_field(body, 'data'))}>"
    if kind in ("file", "input_file"):
        body = body if body is not None else part
        name = _field(body, "filename") or _field(body, "file_id") or "unnamed"
        return f"<file: {name}, {_length(_field(body, 'file_data'))}>"
    return f"<{kind}>"


def _address(url: Any) -> str:
    text = str(url)
    head, comma, data = text.partition(",")
    return f"{head}, {_length(data)}" if comma and text.startswith("data:") else text


def _length(data: Any) -> str:
    return f"{len(data):,} characters" if isinstance(data, str) and data else "no data"


def _output(output: Any, number: str, paint: Paint) -> Iterator[str]:
    reasoning, text = _field(output, "reasoning_content"), output if isinstance(output, str) else _field(output, "text")
    if reasoning:
        yield paint(f"Reasoning{number}:", _RED)
        yield paint(str(reasoning).strip(), "")
    if text or isinstance(output, str):
        yield paint(f"Response{number}:", _RED)
        yield paint(str(text).strip(), _GREEN)
    calls = _field(output, "tool_calls") or ()
    if calls:
        yield paint(f"Tool calls{number}:", _RED)
        yield from (paint(_tool_call(call), _GREEN) for call in calls)
    for citation in _field(output, "citations") or ():
        yield paint(f"Source: {_field(citation, 'title') or ''} {_field(citation, 'url') or ''}".rstrip(), _BLUE)


def _tool_call(call: Any) -> str:
    function = _field(call, "function") or call
    arguments = _field(function, "arguments")
    return f"{_field(function, 'name')}({arguments if arguments is not None else _field(function, 'args') or ''})"


def _field(holder: Any, name: str) -> Any:
    """A field of a mapping or of an object; None when it has none."""
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)
