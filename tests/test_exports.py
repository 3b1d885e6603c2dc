"""The public names: what `__all__` says and what is there are the same."""

from __future__ import annotations

import importlib
import types

import pytest

PACKAGES = ("lmtrace", "lmtrace.testing", "lmtrace.integrations", "lmtrace_exporters", "lmtrace_replay")


@pytest.mark.parametrize("package", PACKAGES)
def test_names_exist(package: str) -> None:
    """`__all__` is sorted, and every name in it can be imported and is listed by `dir()`."""
    module = importlib.import_module(package)
    assert list(module.__all__) == sorted(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_else_is_public(package: str) -> None:
    """A name without an underscore that is not a module is in `__all__`."""
    module = importlib.import_module(package)
    public = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "annotations"
    }
    assert public <= set(module.__all__) | {"TYPE_CHECKING", "Any"}
