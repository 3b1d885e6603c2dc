r"""JSON as people can review it: a text with line ends becomes a list of its lines, as notebooks do.

Exact both ways. A text is split after each ``\n`` and at no other character. A real list that would read as lines,
because its first item ends in a line end, is kept as ``{"$lmtrace": "list", "items": […]}``. Keys are sorted, the telling ones first, so one value has one spelling.
"""

from __future__ import annotations

from typing import Any, Final

from lmtrace._wire import TAG

DEEPEST: Final = 150
"""Levels of nesting that are read or written; what `lmtrace._wire` keeps of a caller's data is less deep."""

_LIST: Final = "list"

_ORDER: Final = (
    f"{TAG} role type name key scope path request response error chunks model model_type messages prompt kwargs outputs "
    "parts text content"
)
_FIRST: Final = {name: position for position, name in enumerate(_ORDER.split())}
"""Keys that come first, in this order; all others follow in the order of their letters."""


class TooDeepError(ValueError):
    """Data is nested deeper than anything that was recorded."""


def readable(value: Any, depth: int = 0) -> Any:
    """`value`, plain JSON, with texts as lines and keys in order.

    Raises:
        TooDeepError: it is nested too deep.
    """
    kind = type(value)
    if kind is str:
        return _split(value) if "\n" in value else value
    if depth > DEEPEST:
        raise TooDeepError(f"nested deeper than {DEEPEST} levels")
    if kind is dict:
        return {name: readable(value[name], depth + 1) for name in sorted(value, key=_rank)}
    if kind is list:
        items = [readable(item, depth + 1) for item in value]
        return {TAG: _LIST, "items": items} if _is_lines(value) else items
    return value


def original(value: Any, depth: int = 0) -> Any:
    """What `readable` was given, but for the order of keys; `value` is changed in place.

    Raises:
        TooDeepError: it is nested too deep.
        ValueError: a tag or a text is damaged.
    """
    kind = type(value)
    if kind is not dict and kind is not list:
        return value
    if depth > DEEPEST + 1:
        raise TooDeepError(f"nested deeper than {DEEPEST} levels")
    if kind is list:
        if _is_lines(value):
            return _joined(value)
        if any(map(_NESTED.__contains__, map(type, value))):
            value[:] = [original(item, depth + 1) for item in value]
        return value
    if value.get(TAG) == _LIST:
        return _items(value, depth)
    for name, item in value.items():
        if type(item) in _NESTED:
            value[name] = original(item, depth + 1)
    return value


def joined(value: dict[str, Any], depth: int = 0) -> None:
    """What `original` does, in place and in half the time, for an object that has no tags in it.

    Raises:
        TooDeepError: it is nested too deep.
        ValueError: a text is damaged.
    """
    if depth > DEEPEST + 1:
        raise TooDeepError(f"nested deeper than {DEEPEST} levels")
    for name, item in value.items():
        kind = type(item)
        if kind is dict:
            joined(item, depth + 1)
        elif kind is list:
            value[name] = _joined_list(item, depth + 1)


def _joined_list(items: list[Any], depth: int) -> Any:
    if _is_lines(items):
        return _joined(items)
    if depth > DEEPEST + 1:
        raise TooDeepError(f"nested deeper than {DEEPEST} levels")
    for position, item in enumerate(items):
        kind = type(item)
        if kind is dict:
            joined(item, depth + 1)
        elif kind is list:
            items[position] = _joined_list(item, depth + 1)
    return items


_NESTED: Final = frozenset({dict, list})


def _joined(lines: list[Any]) -> str:
    try:
        return "".join(lines)
    except TypeError:
        raise ValueError("the lines of a text must be texts") from None


def _items(tag: dict[str, Any], depth: int) -> list[Any]:
    items = tag.get("items")
    if not isinstance(items, list):
        raise ValueError("damaged tag 'list'")
    return [original(item, depth + 1) for item in items]


def _rank(name: str) -> tuple[int, str]:
    return _FIRST.get(name, len(_FIRST)), name


def _split(text: str) -> list[str]:
    lines = [f"{line}\n" for line in text.split("\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _is_lines(items: list[Any]) -> bool:
    """Whether a list reads as the lines of a text: its first item is a text with a line end."""
    return bool(items) and type(items[0]) is str and items[0][-1:] == "\n"
