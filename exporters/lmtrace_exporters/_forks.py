"""Tell objects of a fork: before it, so that their threads step aside; in the parent; and in the child.

What a child inherits (descriptors, locks held by threads that do not exist here) belongs to its parent.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

Actions = weakref.WeakKeyDictionary[Any, Callable[[Any], None]]

_before: Actions = weakref.WeakKeyDictionary()
_in_parent: Actions = weakref.WeakKeyDictionary()
_in_child: Actions = weakref.WeakKeyDictionary()


def after_fork(instance: T, action: Callable[[T], None]) -> None:
    """Call ``action(instance)`` in every forked child for as long as the instance lives."""
    _in_child[instance] = action


def around_fork(instance: T, before: Callable[[T], None], in_parent: Callable[[T], None]) -> None:
    """Call ``before(instance)`` when this process is about to fork, and ``in_parent(instance)`` in it when it has."""
    _before[instance] = before
    _in_parent[instance] = in_parent


def leave_behind(inherited: object) -> None:
    """Never destroy an object of the parent's in this child.

    DuckDB's destructor waits for threads that exist in the parent only: the child would crash, or hang when it exits.
    """
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


def _caller(actions: Actions) -> Callable[[], None]:
    def call_all() -> None:
        for instance, action in list(actions.items()):
            action(instance)

    return call_all


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_caller(_before), after_in_parent=_caller(_in_parent), after_in_child=_caller(_in_child))
