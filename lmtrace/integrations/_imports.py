"""Runs a function once a module has been imported, without importing it.

A finder at the front of ``sys.meta_path`` lets the others find the module and wraps its loader. It is there only while
something is waited for, answers for no other name, and is gone after the import.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_lock = threading.RLock()
_awaited: dict[str, Callable[[], None]] = {}


def after_import(name: str, then: Callable[[], None]) -> None:
    """Call `then` right after the next import of module `name`; a second request replaces the first."""
    with _lock:
        _awaited[name] = then
        if _FINDER not in sys.meta_path:
            sys.meta_path.insert(0, _FINDER)


def forget(name: str) -> None:
    """Take a request back."""
    with _lock:
        _awaited.pop(name, None)
        if not _awaited and _FINDER in sys.meta_path:
            sys.meta_path.remove(_FINDER)


def is_importing(name: str) -> bool:
    """Whether the module is being imported at this moment, by any thread."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def _imported(name: str) -> None:
    with _lock:
        then = _awaited.get(name)
        forget(name)
    if then is not None:
        then()


class _Finder(MetaPathFinder):
    """Finds what the other finders find, and remembers to tell."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _awaited:
            return None
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find(fullname, path, target) if find is not None else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _TellingLoader(spec.loader)
                return spec  # type: ignore[no-any-return]
        return None


class _TellingLoader(Loader):
    """Loads as another loader does and tells when the module has run; everything else is the other's."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        if spec is not None:
            spec.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        _imported(module.__name__)


_FINDER = _Finder()
