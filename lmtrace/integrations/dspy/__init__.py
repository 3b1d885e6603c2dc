"""DSPy: every module, adapter, tool, evaluation and LM call of a program, with nothing added to the program.

Nothing here imports DSPy: it is patched when it is imported, or at once if it is there. What differs between DSPy's
versions is in `_answers_34` and `_answers_32`; `_versions` says which are supported.
"""

from __future__ import annotations

from lmtrace.integrations.dspy._install import instrument, uninstrument

__all__ = ["instrument", "uninstrument"]
