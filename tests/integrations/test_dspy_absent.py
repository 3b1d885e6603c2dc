"""Without DSPy, `instrument()` does nothing for it, whatever else is called ``dspy``."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

import lmtrace


def test_another_module_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program's own module ``dspy`` is left alone."""
    own = ModuleType("dspy")
    monkeypatch.setitem(sys.modules, "dspy", own)
    before = dict(vars(own))
    lmtrace.instrument()
    lmtrace.uninstrument()
    assert vars(own) == before
