"""Names of cassettes: any test has one, no two share one, none leaves its folder."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmtrace_replay._names import MOST_BYTES, file_stem

RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
names = st.text(st.characters(codec=None), max_size=400)
parameters = st.text(st.sampled_from("aAbB-_/.\\~ é\0:"), max_size=8).map(lambda text: f"test_x[{text}]")


@pytest.mark.parametrize(
    "name", ["test_answer", "TestRag.test_answer", "test_x[openai-3]", "test_x[a=1, b=2.5]", "test_é"]
)
def test_plain_names_stay(name: str) -> None:
    """A test's name that any file system takes is the name of its cassette."""
    assert file_stem(name) == name


@given(name=names)
@example(name="test_x[../../../etc/passwd]")
@example(name="test_x[\0]")
@example(name="CON")
@example(name="NUL.test_x")
@example(name="..")
@example(name="")
@example(name="test_" + "x" * 300)
@example(name="test_x[" + "€" * 100 + "]")
@example(name="\ud800")
def test_any_name_is_a_file(name: str) -> None:
    """Whatever a test is called, its cassette is one file in the folder, of a length and a name every system takes."""
    stem = file_stem(name)
    assert 0 < len(stem.encode("utf-8")) <= MOST_BYTES
    assert PurePosixPath(stem).name == stem == PureWindowsPath(f"{stem}.cassette").name.removesuffix(".cassette")
    assert not set(stem) & set('\\/?*:|"<>')
    assert not any(unicodedata.category(c)[0] == "C" for c in stem)
    assert stem.split(".", maxsplit=1)[0].lower() not in RESERVED
    assert not stem.startswith(".")


@given(one=parameters, other=parameters)
@example(one="test_x[a]", other="test_x[A]")
@example(one="test_x[a/b]", other="test_x[a-b]")
@example(one="test_x[ä]", other="test_x[ä]")
def test_no_two_share(one: str, other: str) -> None:
    """Tests with different names have different cassettes, also where case and composition of letters do not count."""
    if one != other:
        assert _folded(file_stem(one)) != _folded(file_stem(other))


def test_twins() -> None:
    """Two functions whose names differ by case only are kept apart."""
    assert _folded(file_stem("test_A", twin=True)) != _folded(file_stem("test_a", twin=True))


def test_long_names_differ() -> None:
    """Names that are the same for longer than a file name can be still have different cassettes."""
    long = "test_x[" + "y" * 300
    assert file_stem(f"{long}1]") != file_stem(f"{long}2]")


def test_it_is_written(tmp_path: Path) -> None:
    """The file system takes what comes out."""
    for name in ("test_x[../a]", "test_x[\0]", "NUL", "test_x[" + "ü" * 300 + "]"):
        (tmp_path / f"{file_stem(name)}.cassette").write_text("")
    assert len(list(tmp_path.iterdir())) == 4


def _folded(text: str) -> str:
    return unicodedata.normalize("NFD", text).casefold()
