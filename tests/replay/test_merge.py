"""Several cassettes, and the parts of several processes, become one in the same way each time."""

from __future__ import annotations

import multiprocessing
import random
from pathlib import Path

import pytest

from lmtrace._data import LMOutput, LMRequest, LMResponse, LMTextPart
from lmtrace_replay._cassette import load, save
from lmtrace_replay._format import Header
from lmtrace_replay._merge import merge_parts, merged, merged_header, parts_folder, write_part
from lmtrace_replay._recording import Recording


def recording(text: str, answer: str = "b", path: str | None = None) -> Recording:
    return Recording(
        request=LMRequest(model="m", messages=[{"role": "user", "content": text}]),
        response=LMResponse(outputs=(LMOutput(parts=(LMTextPart(answer),)),)),
        path=path,
    )


def asked(path: Path) -> list[str]:
    return [one.request.messages[0]["content"] for one in load(path).recordings]


def test_repeats_are_kept_and_doubles_are_not() -> None:
    """A call that two cassettes hold is there once; one that a cassette holds twice is there twice."""
    a, b, c = (recording(text) for text in "abc")
    assert merged([[a, a, b], [a, c, b, c]]) == [a, a, b, c, c]


def test_headers_agree_or_say_less() -> None:
    """The newest version of each package is kept, an adapter only if all have it."""
    one = Header(versions={"dspy": "3.4.1", "lmtrace": "0.1.0"}, adapter="ChatAdapter")
    two = Header(versions={"dspy": "3.10.0"}, adapter="JSONAdapter")
    assert merged_header([one, two]) == Header(versions={"dspy": "3.10.0", "lmtrace": "0.1.0"})
    assert merged_header([one, one]) == one


def test_the_result_does_not_depend_on_the_order_of_parts(tmp_path: Path) -> None:
    """Parts are merged by owner and path, whoever wrote first; the folder of parts is gone afterwards."""
    parts = {
        f"tests/test_x.py::test_{name}[{'/' * 3}..]": [recording(f"{name}{n}", path=f"0.{n}") for n in (10, 9)]
        for name in "abc"
    }
    texts = set()
    for seed in range(4):
        path = tmp_path / f"{seed}.cassette"
        owners = list(parts)
        random.Random(seed).shuffle(owners)
        for owner in owners:
            write_part(path, owner, parts[owner])
        assert merge_parts(path) == 3
        assert not parts_folder(path).exists()
        texts.add(path.read_bytes())
    assert len(texts) == 1
    assert asked(tmp_path / "0.cassette") == ["a9", "b9", "c9", "a10", "b10", "c10"]
    assert merge_parts(tmp_path / "0.cassette") == 0


def test_what_is_there_can_stay(tmp_path: Path) -> None:
    """New parts replace a cassette, or add to it when asked."""
    path = tmp_path / "x.cassette"
    save(path, [recording("old")])
    write_part(path, "t", [recording("new")])
    merge_parts(path, keep=True)
    assert asked(path) == ["old", "new"]
    write_part(path, "t", [recording("newer")])
    merge_parts(path)
    assert asked(path) == ["newer"]


def _write(path: Path, name: str) -> None:
    write_part(path, name, [recording(name)])


@pytest.mark.slow
def test_processes_write_side_by_side(tmp_path: Path) -> None:
    """Parts that processes write at the same time are all there."""
    path = tmp_path / "x.cassette"
    processes = [multiprocessing.get_context("spawn").Process(target=_write, args=(path, f"w{n}")) for n in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert merge_parts(path) == 4
    assert asked(path) == ["w0", "w1", "w2", "w3"]
