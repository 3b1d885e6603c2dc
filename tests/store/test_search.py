"""A search finds the same with and without the filters of segments, whatever became of them."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmtrace._exporter import Record
from lmtrace_exporters import (
    History,
    HistoryQueryError,
    StoreExporter,
    backup,
    collect_garbage,
    compact,
    open_history,
    rebuild_catalog,
    verify,
)
from lmtrace_exporters._catalog import load
from lmtrace_exporters._filter_file import Part, save
from lmtrace_exporters._filters import bitmap_of, grams_of
from lmtrace_exporters._grams import fold, may_hold, runs
from lmtrace_exporters._layout import Layout

PIECES = [
    "Paris", "Quetzalcoatlus", "naïve café", "Ünïcode", "Straße", "STRASSE", "ΣΊΣΥΦΟΣ σίσυφος", "привет Мир", "日本語の文章です",
    "ไม่มีช่องว่าง", "\N{KELVIN SIGN}elvin", "la\N{LATIN SMALL LETTER LONG S}t", "İstanbul", "ﬁne", "🦜🦜", "a\u0301", 'say "no"',
    "back\\slash", "tab\there", "line\nbreak", "x", "ab", "abc", "foo_bar-baz.qux", "#4711!", "{}[],:", "eªº", "\u0264\ua7cb", "𐐀𐐨",
]  # fmt: skip
TEXTS = st.lists(
    st.sampled_from(PIECES) | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8), max_size=5
)
LONE = "quetzalcoatlus"
DAYS = 4


def record(number: int, text: str, day: int) -> Record:
    """A call that holds a text in one of the places."""
    places: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": text}]},
        {"outputs": [text]},
        {"prompt": text},
        {"error_type": "OddError", "error_message": text},
    ]
    moment = f"2026-01-{day:02}T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z"
    row = {"kind": "call", "uuid": f"{day}-{number:05}", "timestamp": moment, **places[number % 4], "schema_version": 1}
    return Record("call", orjson.dumps(row))


def fill(store: Path, day: int, texts: list[str], first: int = 0) -> None:
    exporter = StoreExporter(store, compaction=False)
    exporter.export([record(number, text, day) for number, text in enumerate(texts, first)])
    exporter.shutdown()


def made_up(chance: random.Random) -> str:
    text = " ".join(chance.choice(PIECES) for _ in range(chance.randrange(4)))
    return chance.choice([str, str.upper, str.lower, str.swapcase])(text)


def found(store: Path, text: str, **how: Any) -> list[tuple[Any, ...]]:
    with open_history(store) as history:
        return history.search(text, columns="uuid", **how).rows


@pytest.fixture
def store(store: Path) -> Path:
    """A store of some days, each with a filter; one row holds a word of its own."""
    for day in range(1, DAYS + 1):
        fill(store, day, [f"The text of day {day}, number {number}" for number in range(20)])
    fill(store, 2, [f"seen: {LONE}"], 50)
    compact(store, grace_seconds=0)
    compact(store, grace_seconds=0)
    assert len(filters(store)) == DAYS
    return store


def filters(store: Path) -> list[Path]:
    return sorted((store / "filters").glob("*"))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[History, History]]:
    """Two histories of the same rows, with and without filters; days have one row group and several."""
    chance, whole = random.Random(7), tmp_path_factory.mktemp("search") / "store"
    for day in range(1, DAYS + 1):
        fill(whole, day, [made_up(chance) for _ in range(40 if day % 2 else 4_200)])
    compact(whole, grace_seconds=0)
    bare = whole.with_name("bare")
    shutil.copytree(whole, bare)
    shutil.rmtree(bare / "filters")
    with open_history(whole) as with_filters, open_history(bare) as without:
        yield with_filters, without


CHANGES = st.sampled_from([str, str.upper, str.lower, str.swapcase, str.casefold, str.title])
PLACES = st.sets(st.sampled_from(["prompt", "answer", "error"]), min_size=1)


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A text that may be in the store, whole, in part or in another case, and how it is looked for."""
    start = draw(st.integers(0, 12))
    text = draw(CHANGES)("".join(draw(TEXTS)))[start : start + draw(st.integers(1, 20))]
    return text or "ab", {"case": draw(st.booleans()), "places": sorted(draw(PLACES))}


ALL: dict[str, Any] = {"case": False, "places": ["prompt", "answer", "error"]}


@settings(max_examples=40, deadline=None)
@given(questions())
@example(("KELVIN", ALL))
@example(("LAST", ALL))
@example(("STRASSE", ALL))
@example(("lin", {**ALL, "case": True}))
@example(("never seen anywhere", ALL))
@example(("ab[ck]", {**ALL, "regex": True}))
def test_same_found(both: tuple[History, History], question: tuple[str, dict[str, Any]]) -> None:
    """Whatever is looked for, in any case and any place, across words or inside of one: filters change nothing."""
    text, how = question
    for count in (5, 100_000):
        answers = [history.search(text, count=count, columns="uuid", **how).rows for history in both]
        assert answers[0] == answers[1]


@settings(max_examples=200, deadline=None)
@given(
    before=TEXTS,
    middle=TEXTS,
    after=TEXTS,
    change=st.sampled_from([str, str.upper, str.lower, str.casefold, str.title]),
    case=st.booleans(),
)
@example(before=["x"], middle=["kk\N{KELVIN SIGN}k"], after=[""], change=str.lower, case=False)
@example(before=[""], middle=["ẞẞẞ"], after=["ab"], change=str.lower, case=False)
def test_never_missing(
    before: list[str], middle: list[str], after: list[str], change: Callable[[str], str], case: bool
) -> None:
    """What DuckDB finds in a text, the text's bitmap never denies."""
    text, wanted = "".join([*before, *middle, *after]), change("".join(middle))
    if not wanted:
        return
    function = "contains($1, $2)" if case else "regexp_matches($1, $2, 'il')"
    (holds,) = DUCK.execute(f"SELECT {function}", [text, wanted]).fetchone() or (None,)
    bitmap = bitmap_of(grams_of(text.encode()), 1 << 20)
    assert not holds or all(may_hold(bitmap, run) for run in runs(wanted, case=case))


DUCK = duckdb.connect()


def test_pairs() -> None:
    """No character that is kept in a run equals another one for DuckDB without regard to case."""
    everything = [chr(code) for code in range(0x80, 0x2_0000) if not 0xD800 <= code < 0xE000]
    kept = [one for one in everything if runs(one, case=False) == [one.encode()]]
    others = "".join(set(everything) - set(kept)) + "abcdefghijklmnopqrstuvwxyz"
    pattern = "[" + "".join(f"\\x{{{ord(one):x}}}" for one in kept) + "]"
    assert len(kept) > 50_000
    assert DUCK.execute("SELECT regexp_extract_all($1, $2, 0, 'i')", [others, pattern]).fetchone() == ([],)
    ascii_like = DUCK.execute(
        "SELECT regexp_extract_all($1, '[\\x00-\\x7f]', 0, 'i')", ["".join(everything)]
    ).fetchone()
    assert ascii_like is not None
    assert all(fold(one.encode()).isascii() for one in ascii_like[0])


def test_denies() -> None:
    """A bitmap denies most of what a text does not hold, wherever pieces begin."""
    text = " ".join(f"word{number} of prose" for number in range(500)).encode()
    bitmap = bitmap_of(grams_of(text), 1 << 20)
    assert all(may_hold(bitmap, text[start : start + size]) for start in range(200) for size in (1, 2, 3, 5, 8, 40))
    assert not any(may_hold(bitmap, run) for run in (b"quetzalcoatlus", b"uetzalcoatlu", b"of words", b"xyzzy"))


def test_is_used(store: Path) -> None:
    """A search goes by the filters: told that a segment holds nothing, it does not look there; a journal has none."""
    assert found(store, LONE) == [("2-00050",)]
    layout = Layout(store)
    for segment in load(layout).segments:
        save(layout, segment, [Part(segment.rows, bytes(1024))])
    assert found(store, LONE) == found(store, "text of day") == []
    assert found(store, LONE, regex=True) == found(store, LONE, count=None) == [("2-00050",)]
    fill(store, 3, [LONE.upper()], 50)
    assert found(store, LONE) == [("3-00050",)]


def test_wrong_expression(store: Path) -> None:
    """A wrong regular expression is an error that says so."""
    with pytest.raises(HistoryQueryError):
        found(store, "(", regex=True)


def sound(store: Path) -> bool:
    return found(store, LONE) == [("2-00050",)] and len(found(store, "TEXT OF", count=100)) == 20 * DAYS


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    path.write_bytes(data)


def test_flipped_bits(store: Path) -> None:
    """Whichever bit of a filter is flipped: searches find the same, `verify` names the file, compaction makes it again."""
    for path in filters(store) * 3:
        whole = path.read_bytes()
        flip(path)
        assert sound(store)
        assert [problem.path for problem in verify(store).problems] == [f"filters/{path.name}"]
        path.write_bytes(whole)
    flip(filters(store)[0])
    assert compact(store).filters == 1
    assert verify(store).is_sound
    assert verify(store).filters == DAYS


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_torn(store: Path, size: int) -> None:
    """A filter that was cut short is as good as none, and is made again."""
    for path in filters(store):
        path.write_bytes(path.read_bytes()[:size])
    assert sound(store)
    assert len(verify(store).problems) == DAYS
    assert compact(store).filters == DAYS
    assert sound(store)
    assert verify(store).is_sound


def test_missing(store: Path) -> None:
    """Filters of an older lmtrace's store are missing, which is nothing wrong; they are made by the next compaction or on request."""
    shutil.rmtree(store / "filters")
    assert sound(store)
    assert verify(store).is_sound
    assert rebuild_catalog(store).filters == DAYS
    filters(store)[0].unlink()
    assert compact(store).filters == 1
    assert sound(store)


def test_foreign(store: Path) -> None:
    """The filter of another segment is not gone by, and replaced."""
    first, *others = filters(store)
    for other in others:
        shutil.copy(first, other)
    assert sound(store)
    assert len(verify(store).problems) == len(others)
    assert compact(store).filters == len(others)
    assert verify(store).is_sound


def test_newer(store: Path) -> None:
    """A filter of a newer lmtrace is not gone by, and left to it."""
    from lmtrace_exporters._line import frame

    for path in filters(store):
        path.write_bytes(frame(b'{"format":99,"what":"else"}') + b"\0" * 100)
    assert sound(store)
    assert verify(store).is_sound
    assert compact(store).filters == 0


@pytest.mark.skipif(os.name == "nt", reason="pipes and links of POSIX")
@pytest.mark.timeout(60)
def test_something_else(store: Path) -> None:
    """A folder, a pipe or a link in the place of a filter holds nobody up and leads nowhere."""
    first, second, third, _ = filters(store)
    for path in (first, second, third):
        path.unlink()
    first.mkdir()
    os.mkfifo(second)
    third.symlink_to("/etc/hostname")
    (store / "filters" / "foreign.grams").mkdir()
    assert sound(store)
    assert len(verify(store).problems) == 3
    compact(store)
    assert sound(store)


def test_current_day(store: Path) -> None:
    """Segments of today will be merged and have no filter; a search finds what is in them."""
    today = datetime.now(UTC) + timedelta(hours=12)  # not over, even if this one ends just now
    exporter = StoreExporter(store, compaction=False)
    row = {"kind": "call", "uuid": "now", "timestamp": today.isoformat(), "messages": LONE, "schema_version": 1}
    exporter.export([Record("call", orjson.dumps(row))])
    exporter.shutdown()
    assert compact(store).filters == 0
    assert found(store, LONE) == [("now",), ("2-00050",)]


def test_no_orphans(store: Path) -> None:
    """Merging and forgetting take the filters along: there is one for each segment, and no other file."""
    fill(store, 1, [LONE], 50)
    compact(store, grace_seconds=0)
    compact(store, grace_seconds=0)
    assert names(store) == live(store)
    assert len(found(store, LONE)) == 2
    collect_garbage(store, before=datetime(2026, 1, 3, tzinfo=UTC), grace_seconds=0)
    assert names(store) == live(store)
    assert len(names(store)) == 2
    (store / "filters" / "00000000-dead.grams").write_bytes(b"left behind")
    (store / "filters" / "x.grams.1-ab.tmp").write_bytes(b"half")
    compact(store, grace_seconds=0)
    assert names(store) == live(store)
    assert found(store, LONE) == []


def names(store: Path) -> set[str]:
    return {path.name.removesuffix(".grams") for path in filters(store)}


def live(store: Path) -> set[str]:
    return {Path(segment.path).name.split(".")[0] for segment in load(Layout(store)).segments}


def test_damaged_segment(store: Path) -> None:
    """A segment in quarantine leaves no filter behind."""
    path = store / load(Layout(store)).segments[0].path
    path.write_bytes(b"garbage")
    compact(store, grace_seconds=0)
    compact(store, grace_seconds=0)
    assert names(store) == live(store)


def test_backup(store: Path, tmp_path: Path) -> None:
    """A backup has the filters of its segments."""
    copy = tmp_path / "copy"
    backup(store, copy)
    assert names(copy) == live(copy) == live(store)
    assert verify(copy).filters == DAYS
    assert sound(copy)
