"""Ids that a provider made up, replaced by ones that are the same each time the same answers are recorded.

A response id or a tool-call id is random, and later requests refer to it. Each gets a name made of the request it answered and
renamed wherever it occurs under the name of an id, so references stay whole: a program that is replayed hands back the id
it was given, and that is the one in the recorded request. Ids renamed once are left alone.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from lmtrace._keys import request_key
from lmtrace_replay._recording import Recording

_NAMES: Final = frozenset(
    {"id", "tool_call_id", "tool_use_id", "call_id", "item_id", "response_id", "previous_response_id"}
)
"""Fields that hold an id."""

_MARK: Final = "lmt"
_RENAMED: Final = re.compile(rf"(?:[A-Za-z]+[_-])?{_MARK}[0-9a-f]{{20}}")
_MADE_UP: Final = re.compile(r"[A-Za-z]+[_-][\w-]{6,}|[0-9a-fA-F-]{16,}|gen-[\w-]+")
"""What an id in a provider's own data looks like; ``0`` or a function's name is none."""
_PREFIX: Final = re.compile(r"[A-Za-z]+[_-]")

Wire = dict[str, Any]


def with_stable_ids(entries: list[Wire]) -> list[Wire]:
    """JSON forms of recordings in their final order, with the ids in them renamed."""
    found = [list(dict.fromkeys(_made_up(entry))) for entry in entries]
    if not any(found):
        return entries
    names = _new_names(entries, found)
    return [_renamed(entry, names) if _mentions(entry, names) else entry for entry in entries] if names else entries


def _made_up(entry: Wire) -> Iterator[str]:
    """The ids that came with an answer, in their order."""
    response = entry.get("response") or {}
    if isinstance(response.get("response_id"), str):
        yield response["response_id"]
    for output in response.get("outputs") or ():
        for part in output.get("parts") or ():
            if part.get("type") == "tool_call" and isinstance(part.get("id"), str):
                yield part["id"]
            yield from _inside(part.get("provider_data"))
        yield from _inside(output.get("provider_data"))
    yield from _inside(response.get("provider_data"))
    for chunk in entry.get("chunks") or ():
        if isinstance(chunk, dict):
            yield from _inside(chunk.get("data"))


def _inside(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        for name, value in data.items():
            if name in _NAMES and isinstance(value, str):
                if _MADE_UP.fullmatch(value):
                    yield value
            else:
                yield from _inside(value)
    elif isinstance(data, list):
        for item in data:
            yield from _inside(item)


def _new_names(entries: list[Wire], found: list[list[str]]) -> dict[str, str]:
    taken = {one for ids in found for one in ids if _RENAMED.fullmatch(one)}
    blank = dict.fromkeys((one for ids in found for one in ids), "id")
    names: dict[str, str] = {}
    times: Counter[str] = Counter()
    for entry, ids in zip(entries, found, strict=True):
        new = [one for one in ids if one not in taken and one not in names]
        base = _base(entry, blank)
        if new:
            names.update(_names_of(new, base, times, taken))
        times[base] += 1
    return names


def _names_of(ids: list[str], base: str, times: Counter[str], taken: set[str]) -> dict[str, str]:
    """New names for the ids of one answer; those of the next occurrence where they are taken."""
    while True:
        names = {one: _name(one, f"{base}|{times[base]}|{number}") for number, one in enumerate(ids)}
        if taken.isdisjoint(names.values()):
            taken.update(names.values())
            return names
        times[base] += 1


def _name(old: str, seed: str) -> str:
    prefix = _PREFIX.match(old)
    return f"{prefix[0] if prefix else ''}{_MARK}{hashlib.sha256(seed.encode()).hexdigest()[:20]}"


def _base(entry: Wire, blank: dict[str, str]) -> str:
    """The identity of a request whatever the ids in it."""
    request = Recording.from_wire({"request": _renamed(entry["request"], blank)}).request
    return f"{request_key(request)}|{request.rollout_id}"


def _mentions(value: Any, names: dict[str, str]) -> bool:
    if isinstance(value, dict):
        return any(
            (name in _NAMES and isinstance(item, str) and item in names) or _mentions(item, names)
            for name, item in value.items()
        )
    return isinstance(value, list) and any(_mentions(item, names) for item in value)


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            name: names.get(item, item) if name in _NAMES and isinstance(item, str) else _renamed(item, names)
            for name, item in value.items()
        }
    return [_renamed(item, names) for item in value] if isinstance(value, list) else value
