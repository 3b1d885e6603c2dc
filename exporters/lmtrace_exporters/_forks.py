"""Tell objects that they now live in a forked child.

What a child inherits (descriptors, locks held by threads that do not exist here) belongs to its parent.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_actions: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()


def after_fork(instance: T, action: Callable[[T], None]) -> None:
    """Call ``action(instance)`` in every forked child for as long as the instance lives."""
    _actions[instance] = action


def leave_behind(inherited: object) -> None:
    """Never destroy an object of the parent's in this child.

    DuckDB's destructor waits for threads that exist in the parent only: the child would crash, or hang when it exits.
    """
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


def _in_child() -> None:
    for instance, action in list(_actions.items()):
        action(instance)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
