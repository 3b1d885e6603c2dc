"""One attribute replaced for a while, and put back exactly.

Others patch the same methods (OpenTelemetry, Sentry, debuggers), before us, after us, and take theirs away in any order. So a
wrapper that cannot be taken away, because another one stands on it, is retired: it passes every call on, for ever, and the
next session puts a new one on top. No task is ever counted twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

_MISSING: Final = object()

_UNDER: Final = "__lmtrace_under__"
"""The attribute of a wrapper of ours that holds what it stands on."""

Function = Callable[..., Any]


class Switch:
    """Whether a wrapper still works, or passes every call on."""

    __slots__ = ("is_on",)

    def __init__(self) -> None:
        self.is_on = True


class Patch:
    """The replacement of one attribute of `owner` by what `wrap` makes of the function that is there."""

    def __init__(
        self, owner: Any, name: str, wrap: Callable[[Function, Switch], Function], default: Any = None
    ) -> None:
        self._owner = owner
        self._name = name
        self._wrap = wrap
        self._default = default
        """What the name means where the owner does not define it."""
        self._before: Any = _MISSING
        self._wrapper: Any = None
        self._switch = Switch()

    def _there(self) -> Any:
        return vars(self._owner).get(self._name, _MISSING)

    def install(self) -> None:
        """Put a new wrapper over what is there."""
        there = self._there()
        while hasattr(there, _UNDER):  # a retired one, which came up again when what stood on it was taken away
            there = getattr(there, _UNDER)
        self._before = there
        original = getattr(self._owner, self._name, self._default) if there is _MISSING else there
        if original is None:  # another version of Python does it otherwise
            return
        self._switch = Switch()
        self._wrapper = self._wrap(original, self._switch)
        setattr(self._wrapper, _UNDER, there)
        setattr(self._owner, self._name, self._wrapper)

    def remove(self) -> None:
        """Put back what was there, or retire the wrapper when another one stands on it."""
        self._switch.is_on = False
        if self._wrapper is None or self._there() is not self._wrapper:
            return
        if self._before is _MISSING:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._before)
