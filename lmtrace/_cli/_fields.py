"""A prompt and an answer of DSPy, read back into what the program gave: instructions, demos, fields.

DSPy's adapters write a signature as text: field markers (`ChatAdapter`), tags (`XMLAdapter`), a JSON object (the answers of
`JSONAdapter`). Only the stored messages are read here, so it works without DSPy and for adapters derived from these; what has
another form is not read, and its messages are shown as they are. Nothing of a prompt gets lost: what is no field is in `rest`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lmtrace._cli._call import conversation
from lmtrace._cli._text import message_text, one_line

Row = dict[str, Any]
Fields = tuple[tuple[str, str], ...]
"""Names and texts, in the order they stand there."""

_OBJECTIVE: Final = "In adhering to this structure, your objective is:"
_INPUTS: Final = "Your input fields are:"
_OUTPUTS: Final = "Your output fields are:"
_INDENT: Final = " " * 8
_NAMED: Final = re.compile(r"^\d+\. `(\w+)`", re.MULTILINE)
_MARKER: Final = re.compile(r"^[ \t]*\[\[ ## (\w+) ## \]\]", re.MULTILINE)
_TAGGED: Final = re.compile(r"<(\w+)>(.*?)</\1>", re.DOTALL)
_REQUEST: Final = re.compile(r"(?:\A|\n\n)Respond with (?:the corresponding output fields|a JSON object)[^\n]*\Z")
_FENCE: Final = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)
_INCOMPLETE: Final = "This is an example of the task, though some input or output fields are not supplied."
_END: Final = "completed"


@dataclass(frozen=True, slots=True)
class Demo:
    """A few-shot example, or a turn of an earlier conversation."""

    inputs: Fields
    outputs: Fields


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a predictor asked."""

    instructions: str
    demos: tuple[Demo, ...]
    inputs: Fields
    rest: str
    """How the adapter describes the fields and what it asks for, and whatever else is in the messages."""


def is_dspy(row: Row) -> bool:
    """Whether a predictor of DSPy made the call."""
    return bool(row.get("adapter") or row.get("signature"))


def prompt_of(row: Row) -> Prompt | None:
    """The prompt of a call of DSPy; None if its messages are not in the form of a known adapter."""
    said = list(conversation(row)) if is_dspy(row) else []
    if len(said) < 2 or said[0][0] not in ("system", "developer") or said[-1][0] != "user":
        return None
    head, found, objective = said[0][1].partition(_OBJECTIVE)
    if not found:
        return None
    names = frozenset(_NAMED.findall(head))
    demos, others = _demos(said[1:-1], names)
    inputs, left = _asked(said[-1][1], names)
    rest = "\n\n".join(text for text in (head.strip(), *others, left) if text)
    return Prompt(_undented(objective), demos, inputs, rest) if inputs else None


def inputs_of(row: Row) -> Fields:
    """The inputs of a call of DSPy, from its last message alone; nothing if there are none."""
    messages = row.get("messages") if is_dspy(row) else None
    last = messages[-1] if isinstance(messages, list) and messages else None
    content = last.get("content") if isinstance(last, dict) and last.get("role") == "user" else None
    return _asked(message_text(content), _words_of(row.get("signature")))[0]


def _undented(objective: str) -> str:
    return "\n".join(line.removeprefix(_INDENT) for line in objective.split("\n")).strip()


def _demos(said: Sequence[tuple[str, str]], names: frozenset[str]) -> tuple[tuple[Demo, ...], list[str]]:
    """The demos, and messages that belong to none."""
    demos, others, index = [], [], 0
    while index < len(said):
        demo = _demo(said[index : index + 2], names)
        if demo is None:
            others.append(": ".join(said[index]))
        else:
            demos.append(demo)
        index += 1 if demo is None else 2
    return tuple(demos), others


def _demo(pair: Sequence[tuple[str, str]], names: frozenset[str]) -> Demo | None:
    if [role for role, _ in pair] != ["user", "assistant"]:
        return None
    (asked, left), answered = _asked(pair[0][1], names), fields_of(pair[1][1], names)
    return Demo(asked, answered) if answered and left in ("", _INCOMPLETE) else None


def _asked(text: str, names: frozenset[str]) -> tuple[Fields, str]:
    """The fields of a user's message, and the rest of it."""
    request = _REQUEST.search(text)
    body = text[: request.start()] if request else text
    fields, left = _marked(body) or _tagged(body, names) or ((), body.strip())
    return fields, "\n\n".join(part for part in (left, request[0].strip() if request else "") if part)


def fields_of(text: str, names: frozenset[str] = frozenset()) -> Fields:
    """The fields of an answer, in any form an adapter reads; nothing if it has none.

    Args:
        text: What was answered.
        names: The fields of the signature, without which tags of XML are not told from other tags.
    """
    marked = _marked(text)
    if marked is not None:
        fields, left = marked
        return ((("", left),) if left else ()) + tuple(field for field in fields if field != (_END, ""))
    tagged = _tagged(text, names)
    if tagged is not None:
        return ((("", tagged[1]),) if tagged[1] else ()) + tagged[0]
    return tuple(_of_object(text))


def _marked(text: str) -> tuple[Fields, str] | None:
    found = list(_MARKER.finditer(text))
    if not found:
        return None
    ends = [*(marker.start() for marker in found[1:]), len(text)]
    fields = tuple((marker[1], text[marker.end() : end].strip()) for marker, end in zip(found, ends, strict=True))
    return fields, text[: found[0].start()].strip()


def _tagged(text: str, names: frozenset[str]) -> tuple[Fields, str] | None:
    found = [tag for tag in _TAGGED.finditer(text) if tag[1] in names]
    if not found:
        return None
    ends = [0, *(tag.end() for tag in found)]
    starts = [*(tag.start() for tag in found), len(text)]
    left = (text[end:start].strip() for end, start in zip(ends, starts, strict=True))
    return tuple((tag[1], tag[2].strip()) for tag in found), "\n".join(part for part in left if part)


def _of_object(text: str) -> Iterator[tuple[str, str]]:
    body = text.strip()
    fence = _FENCE.match(body)
    try:
        value = json.loads(fence[1] if fence else body)
    except (ValueError, RecursionError):
        return
    for name, item in value.items() if isinstance(value, dict) else ():
        yield name, item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)


def answers_of(row: Row) -> list[Fields] | None:
    """The fields of each candidate of an answer; None if one has no fields, or more than text."""
    outputs = row["outputs"] if is_dspy(row) and isinstance(row.get("outputs"), list) else []
    found = [fields_of(_said(output), _words_of(row.get("signature"))) for output in outputs]
    return found if found and all(found) else None


def _said(output: Any) -> str:
    if not isinstance(output, dict):
        return message_text(output)
    if any(output.get(name) for name in ("reasoning_content", "tool_calls", "citations")):
        return ""
    return message_text(output.get("text"))


def fields_line(fields: Fields, limit: int = 200) -> str:
    """Fields on one line, the last first, because that is what the others lead to; a single one without its name."""
    if len(fields) == 1:
        return one_line(fields[0][1], limit)
    return one_line(" · ".join(f"{name}: {said}" if name else said for name, said in reversed(fields)), limit)


def demo_line(demo: Demo) -> str:
    """A demo on one line."""
    return f"{fields_line(demo.inputs, 80)} → {fields_line(demo.outputs, 80)}"


def _words_of(signature: str | None) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", signature or ""))
