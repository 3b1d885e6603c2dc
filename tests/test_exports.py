"""The public names: what `__all__` says and what is there are the same."""

from __future__ import annotations

import importlib
import types

import pytest

PACKAGES = ("lmtrace", "lmtrace.testing", "lmtrace.integrations.litellm", "lmtrace_exporters", "lmtrace_replay")


def order(name: str) -> tuple[int, str]:
    """Constants, classes, the rest, each by name: the order ruff keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("package", PACKAGES)
def test_names_exist(package: str) -> None:
    """`__all__` is sorted, and every name in it can be imported and is listed by `dir()`."""
    module = importlib.import_module(package)
    assert list(module.__all__) == sorted(module.__all__, key=order)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_else_is_public(package: str) -> None:
    """A name without an underscore that is not a module is in `__all__`."""
    module = importlib.import_module(package)
    root = package.partition(".")[0]
    public = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
        if getattr(value, "__module__", root).startswith(root)
    }
    assert public <= {*module.__all__, "TYPE_CHECKING"}
