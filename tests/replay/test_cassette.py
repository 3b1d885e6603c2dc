"""Cassettes as files: written whole or not at all, never with a credential, never through a link."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from lmtrace._data import LMOutput, LMRequest, LMResponse, LMTextPart
from lmtrace_replay import _cassette
from lmtrace_replay._cassette import load, save
from lmtrace_replay._errors import CassetteError, CassetteSecretError
from lmtrace_replay._recording import Recording


def recording(text: str = "a", answer: str = "b") -> Recording:
    return Recording(
        request=LMRequest(model="m", messages=[{"role": "user", "content": text}]),
        response=LMResponse(outputs=(LMOutput(parts=(LMTextPart(answer),)),)),
    )


def test_saved_is_loaded(tmp_path: Path) -> None:
    """A cassette is written with its folder, in the usual permissions, and nothing is left beside it."""
    path = tmp_path / "deep" / "er" / "x.cassette"
    assert save(path, [recording()])
    cassette = load(path)
    assert [one.request.messages for one in cassette.recordings] == [[{"role": "user", "content": "a"}]]
    assert cassette.models == ["m"]
    assert cassette.header.versions["lmtrace"]
    assert list(path.parent.iterdir()) == [path]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_the_same_is_not_written_again(tmp_path: Path) -> None:
    """Saving what is there already does not touch the file."""
    path = tmp_path / "x.cassette"
    save(path, [recording()])
    before = path.stat()
    assert not save(path, [recording()])
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When writing fails half way, the old cassette is whole and no temporary file stays."""
    path = tmp_path / "x.cassette"
    save(path, [recording()])
    old = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CassetteError, match="No space left"):
        save(path, [recording("other")])
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A symbolic link in the place of a cassette is replaced; what it points to stays as it is."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    link = tmp_path / "x.cassette"
    link.symlink_to(precious)
    save(link, [recording()])
    assert precious.read_text() == "precious"
    assert not link.is_symlink()
    assert len(load(link).recordings) == 1


def test_what_is_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file, a folder, a pipe and a file too large are refused with what to do."""
    with pytest.raises(CassetteError, match=r"there is no cassette .*none\.cassette; record it"):
        load(tmp_path / "none.cassette")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(CassetteError, match="no regular file"):
            load(path)
    save(tmp_path / "x", [recording()])
    monkeypatch.setattr(_cassette, "LARGEST", 10)
    with pytest.raises(CassetteError, match="larger than"):
        load(tmp_path / "x")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("my key is sk-" + "a1B2" * 8, "something shaped like a key"),
        ("AKIAIOSFODNN7EXAMPLE", "something shaped like a key"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----", "something shaped like a key"),
        ("use acme-4711-secret", "the value of ACME_API_KEY"),
    ],
)
def test_a_credential_fails_the_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, what: str) -> None:
    """What looks like a credential, in request or answer, fails the write; the message says where and does not repeat it."""
    monkeypatch.setenv("ACME_API_KEY", "acme-4711-secret")
    path = tmp_path / "x.cassette"
    with pytest.raises(CassetteSecretError, match=f"call 2, request: {what}") as caught:
        save(path, [recording(), recording(text)])
    assert text not in str(caught.value)
    with pytest.raises(CassetteSecretError, match=f"call 1, response: {what}"):
        save(path, [recording(answer=text)])
    assert not path.exists()
    assert save(path, [recording(text)], scan=False)


def test_a_hundred_calls_load_in_no_time(tmp_path: Path) -> None:
    """100 calls of 5 KB load so quickly that a test suite does not notice (5 ms on an idle machine)."""
    prompt = "\n".join(f"line {n}: the quick brown fox jumps over the lazy dog" for n in range(90))
    path = tmp_path / "x.cassette"
    save(path, [recording(f"{n}\n{prompt}") for n in range(100)])
    took = min(_seconds(load, path) for _ in range(5))
    assert took < 0.05


def _seconds(function: Any, *arguments: Any) -> float:
    before = time.thread_time()  # what other programs do meanwhile is nobody's fault
    function(*arguments)
    return time.thread_time() - before


def test_line_ends_of_windows(tmp_path: Path) -> None:
    """A file that was checked out with other line ends is the same cassette, and saving the same leaves it alone."""
    path = tmp_path / "x.cassette"
    save(path, [recording()])
    theirs = path.read_bytes().replace(b"\n", b"\r\n")
    path.write_bytes(theirs)
    assert load(path).recordings[0].request == recording().request
    assert not save(path, [recording()])
    assert path.read_bytes() == theirs
