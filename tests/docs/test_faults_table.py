"""The table of faults names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_named_tests_exist() -> None:
    """Each fault of the list is in the table, and each test it names is there."""
    document = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    missing = []
    for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", document):
        file = ROOT / path
        if not file.exists() or (name and f"def {name}(" not in file.read_text(encoding="utf-8")):
            missing.append(f"{path}::{name}")
    assert not missing
    covered: set[int] = set()
    for numbers in re.findall(r"^\| ([\d, -]+) \|", document, re.MULTILINE):
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", numbers):
            covered |= set(range(int(first), int(last or first) + 1))
    assert covered == set(range(1, 41))
