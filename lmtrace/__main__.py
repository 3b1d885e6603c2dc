"""``python -m lmtrace`` is the command ``lmtrace``."""

from __future__ import annotations

from lmtrace._cli import main

main()
