"""How values are shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtrace._cli._text import count, duration, money, one_line, plural, size, total_money
from lmtrace._cli._times import parse_moment
from lmtrace._visible import json_safe, visible


@pytest.mark.parametrize(
    ("dollars", "shown"),
    [
        (None, "unknown"),
        (0.0, "$0"),
        (3.345e-05, "$0.000033"),
        (1e-12, "$0.0000000000010"),
        (0.0154, "$0.015"),
        (0.0999, "$0.10"),
        (0.996, "$1.00"),
        (12.345, "$12.35"),
        (1234567.891, "$1,234,567.89"),
    ],
)
def test_money(dollars: float | None, shown: str) -> None:
    """Two significant digits at any scale, cents from a dollar up, and unknown is never zero."""
    assert money(dollars) == shown


@given(st.floats(min_value=1e-12, max_value=0.9))
def test_money_is_near(dollars: float) -> None:
    """What is shown differs from the amount by no more than its second digit allows."""
    assert float(money(dollars)[1:]) == pytest.approx(dollars, rel=0.051)


def test_total_money() -> None:
    """A sum says how many calls are not in it."""
    assert total_money(0.5, 0) == "$0.50"
    assert total_money(0.5, 2) == "$0.50 + 2 unknown"
    assert total_money(None, 2) == total_money(0.0, 2) == "unknown"
    assert total_money(None, 0) == "$0"


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (None, "-"),
        (0.31, "0.3 ms"),
        (312.4, "312 ms"),
        (999.9, "1.0 s"),
        (6_200, "6.2 s"),
        (59_990, "1 m 00 s"),
        (185_000, "3 m 05 s"),
        (7_800_000, "2 h 10 m"),
    ],
)
def test_duration(milliseconds: float | None, shown: str) -> None:
    """A duration has the unit that fits it."""
    assert duration(milliseconds) == shown


def test_counts() -> None:
    """Counts stay short, and what is not known is a dash."""
    assert [count(n) for n in (None, 0, 155, 9_700, 99_960, 999_900, 1_234_567)] == [
        "-", "0", "155", "9.7k", "100k", "1.0M", "1.2M",
    ]  # fmt: skip
    assert [size(n) for n in (0, 512, 1_234, 16_000_000, 999_999_999)] == [
        "0 B",
        "512 B",
        "1.2 kB",
        "16.0 MB",
        "1.0 GB",
    ]
    assert [plural(1, "call"), plural(2, "call"), plural(1_000, "entry")] == ["1 call", "2 calls", "1,000 entries"]


def test_visible() -> None:
    """Control and direction characters appear as escapes; line feeds, tabs and letters of every script stay."""
    assert visible("a\x1b[31m\r\x9b\u202e\tb\n") == "a\\x1b[31m\\r\\x9b\\u202e\tb\n"
    assert visible("naïve 日本 👩\u200d💻 שלום") == "naïve 日本 👩\u200d💻 שלום"
    assert visible("\ud800 \U000e0041") == "\\ud800 \\U000e0041"


@given(st.text(max_size=30))
def test_one_line(text: str) -> None:
    """One line is one line, of no more characters than asked for."""
    line = one_line(text, 20)
    assert len(line) <= 20
    assert len(line.splitlines()) <= 1


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_json_safe(text: str) -> None:
    """Escaping changes how a JSON document is written, not what it says."""
    document = json_safe(json.dumps([text], ensure_ascii=False))
    assert json.loads(document) == [text]
    assert visible(document) == document


NOW = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("words", "moment"),
    [
        ("2h", "2026-11-21T13:30"),
        ("30 min ago", "2026-11-21T15:00"),
        ("1.5d", "2026-11-20T03:30"),
        ("today", "2026-11-21T00:00"),
        ("Yesterday", "2026-11-20T00:00"),
        ("now", "2026-11-21T15:30"),
        ("2026-11-01", "2026-11-01T00:00"),
        ("2026-11-01T09:15+02:00", "2026-11-01T07:15"),
    ],
)
def test_moments(words: str, moment: str) -> None:
    """A moment can be written as people say it."""
    assert parse_moment(words, NOW) == datetime.fromisoformat(moment).replace(tzinfo=UTC)


@pytest.mark.parametrize("words", ["", "soon", "2 parsecs", "2026-13-01", "99999999999w"])
def test_no_moment(words: str) -> None:
    """Anything else is an error."""
    with pytest.raises((ValueError, OverflowError)):
        parse_moment(words, NOW)
