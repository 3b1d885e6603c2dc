"""Text of models is untrusted: no command sends its control characters to the terminal or reads it as markup."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

EVIL = "[bold]x[/bold] \x1b]0;title\x07\x1b[2J\x9b31m\u202egnp\u2066\r\x7f\u200b\ufeff [link=https://evil.example]"
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


@pytest.fixture
def evil_store(make_call: Callable[..., dict[str, Any]], make_store: Callable[..., Path]) -> Path:
    """A store in which every text is hostile."""
    messages = [{"role": "system", "content": EVIL}, {"role": "user", "content": EVIL}]
    columns = {"scope": EVIL, "model": EVIL, "error_type": EVIL, "error_message": EVIL}
    answer = {"outputs": [EVIL], "kwargs": {EVIL: EVIL}, "tags": {EVIL: EVIL}, "run_name": EVIL}
    rows = [make_call(1, messages=messages, **answer), make_call(2, messages=messages, **columns, **answer)]
    return make_store(rows)


@pytest.mark.usefixtures("evil_store")
@pytest.mark.parametrize(
    "arguments",
    [
        ["ls"],
        ["ls", "--runs"],
        ["ls", "--json"],
        ["show", "00000001", "--raw"],
        ["show", "00000002"],
        ["show", "--tree"],
        ["tail"],
        ["search", "bold"],
        ["search", "bold", "--json"],
        ["cost"],
        ["cost", "--by", "prompt"],
        ["sql", "from messages"],
        ["sql", "from messages", "--json"],
        ["ls", "--model", "bold"],
        ["show", "bold"],
        ["export", "-"],
    ],
    ids=" ".join,
)
def test_no_control_characters(lmtrace: Callable[..., Result], arguments: list[str]) -> None:
    """Control and direction characters appear as escapes, and square brackets as themselves."""
    result = lmtrace(*arguments)
    assert not FORBIDDEN.search(result.output)
    assert "[bold]x[/bold]" in result.output or arguments[-1] == "bold"


@pytest.mark.usefixtures("evil_store")
def test_json_is_lossless(lmtrace: Callable[..., Result]) -> None:
    """In JSON the characters are escaped, so a program still gets the very text."""
    row = json.loads(lmtrace("show", "00000001", "--json").stdout)
    assert row["outputs"] == [EVIL]
