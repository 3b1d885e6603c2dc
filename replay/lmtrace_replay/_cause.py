"""What a difference between a recording and a request probably comes from, in words.

Each rule makes two texts alike in one respect: without their dates, say. Where they are equal then, that respect is the
cause. A rule never guesses: it explains the whole difference or says nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

from lmtrace_replay._texts import Message
from lmtrace_replay._words import common_beginning

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_DATE = re.compile(
    rf"\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}[/.]\d{{1,2}}[/.]\d{{2,4}}"
    rf"|\b\d{{1,2}}(?:st|nd|rd|th)?\s+{_MONTH}\.?,?\s+\d{{4}}\b|\b{_MONTH}\.?\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}}\b"
    r"|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b"
    r"|\b\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s?[ap]m\b)?(?:Z|[+-]\d{2}:?\d{2})?",
    re.IGNORECASE,
)
_JOINTS = re.compile("(?<=\x00)[ T,]*(?:at )?(?=\x00)")
_UUID = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE)
_ID = re.compile(r"\b(?:call|toolu|chatcmpl|msg|resp|fc|run|id)_[A-Za-z0-9]{6,}\b|\b(?=[a-f]*\d)[0-9a-f]{12,64}\b")
_PATH = re.compile(r"(?:[A-Za-z]:\\|\\\\|(?<![\w.:/])~?/)[^\s\"'<>|:,;()]+")
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?", re.IGNORECASE)
_SPACE = re.compile(r"\s+")

LONGEST = 20_000
"""Characters of a message that rules are applied to; of a longer one it is the part that differs, with its surroundings."""

_SURROUNDINGS = 80

Rule = tuple[str, Callable[[str], str]]


def _replaced(pattern: re.Pattern[str]) -> Callable[[str], str]:
    return lambda text: _JOINTS.sub("", pattern.sub("\x00", text))


def _sorted_json(text: str) -> str:
    """`text` with the JSON in it written in one way."""
    start = min((at for at in (text.find("["), text.find("{")) if at >= 0), default=-1)
    end = max(text.rfind("]"), text.rfind("}")) + 1
    if not 0 <= start < end:
        return text
    try:
        value: Any = json.loads(text[start:end])
    except (ValueError, RecursionError):
        return text
    return text[:start] + json.dumps(value, sort_keys=True) + text[end:]


RULES: Sequence[Rule] = (
    ("white space", lambda text: _SPACE.sub("", text)),
    ("the order of keys in JSON", _sorted_json),
    ("upper and lower case", str.casefold),
    ("a date or time", _replaced(_DATE)),
    ("a uuid", _replaced(_UUID)),
    ("an id", _replaced(_ID)),
    ("a file path", _replaced(_PATH)),
    ("a number", _replaced(_NUMBER)),
)
"""What texts can differ by, the most harmless first; a date is also numbers, so it comes before them."""

_ADVICE = {
    "a date or time": "fix the clock in the test, or pass a normaliser",
    "a uuid": "seed the ids in the test, or pass a normaliser",
    "an id": "seed the ids in the test, or pass a normaliser",
    "a file path": "use a relative path, or pass a normaliser",
}


def cause_of(recorded: Sequence[Message], asked: Sequence[Message]) -> str | None:
    """Why two conversations differ, or None where no rule explains all of it."""
    if recorded == asked:
        return None
    return _shape(recorded, asked) or _adapter(recorded, asked) or _texts(recorded, asked)


def _shape(recorded: Sequence[Message], asked: Sequence[Message]) -> str | None:
    """Messages that came or went while all others stayed."""
    if len(recorded) == len(asked):
        return "the order of messages" if _same_members(recorded, asked) else None
    longer, shorter = (asked, recorded) if len(asked) > len(recorded) else (recorded, asked)
    positions = _extra(longer, shorter)
    if positions is None:
        return None
    what = "not in the recording" if longer is asked else "in the recording only"
    names = ", ".join(f"{i + 1} ({longer[i].role})" for i in positions[:5])
    return f"message {names} is {what}" if len(positions) == 1 else f"messages {names} are {what}"


def _same_members(one: Sequence[Message], other: Sequence[Message]) -> bool:
    return sorted((m.role, m.text) for m in one) == sorted((m.role, m.text) for m in other)


def _extra(longer: Sequence[Message], shorter: Sequence[Message]) -> list[int] | None:
    """The positions in `longer` of what `shorter` lacks, if the rest is the same in the same order."""
    positions: list[int] = []
    at = 0
    for i, message in enumerate(longer):
        if at < len(shorter) and message == shorter[at]:
            at += 1
        else:
            positions.append(i)
    return positions if at == len(shorter) else None


_ADAPTERS: Sequence[tuple[str, re.Pattern[str]]] = (
    ("ChatAdapter", re.compile(r"\[\[ ## \w+ ## \]\]")),
    ("XMLAdapter", re.compile(r"All interactions will be structured in the following way.*<\w+>\s*\{\w+\}", re.DOTALL)),
    ("JSONAdapter", re.compile(r"Outputs will be a JSON object|respond with a JSON object", re.IGNORECASE)),
)


def adapter_of(messages: Sequence[Message]) -> str | None:
    """The DSPy adapter that wrote the first message, as far as its words tell."""
    text = messages[0].text if messages else ""
    if "All interactions will be structured" not in text and "[[ ## " not in text:
        return None
    if "Outputs will be a JSON object" in text:
        return "JSONAdapter"
    return next((name for name, pattern in _ADAPTERS if pattern.search(text)), None)


def _adapter(recorded: Sequence[Message], asked: Sequence[Message]) -> str | None:
    old, new = adapter_of(recorded), adapter_of(asked)
    return f"another DSPy adapter: {new} instead of {old}" if old and new and old != new else None


def _texts(recorded: Sequence[Message], asked: Sequence[Message]) -> str | None:
    if [message.role for message in recorded] != [message.role for message in asked]:
        return None
    pairs = [_bounded(old.text, new.text) for old, new in zip(recorded, asked, strict=True) if old != new]
    if any(len(text) > LONGEST for pair in pairs for text in pair):
        return None
    for rules in _attempts():
        if all(_through(rules, old) == _through(rules, new) for old, new in pairs):
            names = " and ".join(name for name, _ in rules)
            advice = next((f"; {_ADVICE[name]}" for name, _ in rules if name in _ADVICE), "")
            return f"differs only by {names}{advice}"
    return None


def _bounded(old: str, new: str) -> tuple[str, str]:
    """Two texts, or of long ones what is left when most of their common beginning and end is off."""
    if max(len(old), len(new)) <= LONGEST:
        return old, new
    start = max(0, common_beginning(old, new) - _SURROUNDINGS)
    room = min(len(old), len(new)) - start
    end = min(room, max(0, common_beginning(old[::-1], new[::-1]) - _SURROUNDINGS))
    return old[start : len(old) - end], new[start : len(new) - end]


def _attempts() -> Iterator[tuple[Rule, ...]]:
    """One rule after the other, then two together."""
    yield from ((rule,) for rule in RULES)
    yield from combinations(RULES, 2)


def _through(rules: Sequence[Rule], text: str) -> str:
    for _, rule in rules:
        text = rule(text)
    return text
