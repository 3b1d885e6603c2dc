"""Cassettes as files: read whole with limits, written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from lmtrace_replay._errors import CassetteError
from lmtrace_replay._format import Cassette, Header, dumps, loads
from lmtrace_replay._recording import Recording
from lmtrace_replay._scan import refuse_secrets

LARGEST: Final = 512 * 1024 * 1024
"""Bytes of a file that are read; nobody reviews a cassette of a hundredth of that."""


def load(path: str | os.PathLike[str], *, trust_keys: bool = False) -> Cassette:
    """Read a cassette.

    Args:
        path: The file.
        trust_keys: Whether its requests may have been edited.

    Raises:
        CassetteError: it is not there, no regular file, too large, damaged, edited, or of a newer format.
    """
    where = os.fspath(path)
    return loads(_read(Path(path), where), where, trust_keys=trust_keys)


def _read(path: Path, where: str) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for whoever writes to it
            raise CassetteError(f"{where} is no regular file; name a cassette")
        if status.st_size > LARGEST:
            raise CassetteError(
                f"{where} is larger than {LARGEST >> 20} MB; split it: lmtrace cassette prune, or record less"
            )
        return without_crlf(path.read_bytes())
    except FileNotFoundError:
        raise CassetteError(
            f"there is no cassette {where}; record it: mode='record-missing', or lmtrace cassette create -o {where}"
        ) from None
    except OSError as error:
        raise CassetteError(f"cannot read {where}: {error.strerror or error}") from None


def without_crlf(data: bytes) -> bytes:
    """The text of a file as it was written, if Git or an editor has given it the line ends of Windows since.

    What is ours has no carriage return of its own: JSON and transcripts write it as an escape.
    """
    return data.replace(b"\r\n", b"\n") if b"\r" in data else data


def save(
    path: str | os.PathLike[str],
    recordings: Iterable[Recording],
    header: Header | None = None,
    *,
    timing: bool = False,
    scan: bool = True,
) -> bool:
    """Write a cassette, whole or not at all, and return whether the file is another one now.

    Args:
        path: The file; a symbolic link there is replaced, not followed.
        recordings: What it holds.
        header: What they were made with; found out by default.
        timing: Whether to keep when the chunks of streams arrived.
        scan: Whether to look for credentials first.

    Raises:
        CassetteSecretError: there is something that looks like a credential.
        CassetteError: the file cannot be written.
    """
    kept = list(recordings)
    if scan:
        refuse_secrets(kept, os.fspath(path))
    return write_text(path, dumps(kept, header, timing=timing))


def write_text(path: str | os.PathLike[str], text: str) -> bool:
    """Put a text in the place of a file in one step, and return whether that changed anything.

    Raises:
        CassetteError: it cannot be written.
    """
    target, data = Path(path), text.encode()
    try:
        if not target.is_symlink() and target.is_file() and without_crlf(target.read_bytes()) == data:
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, data)
    except OSError as error:
        raise CassetteError(f"cannot write {target}: {error.strerror or error}") from None
    return True


def _replace(target: Path, data: bytes) -> None:
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")  # in its folder, so that moving it is one step
    try:
        with temporary.open("xb") as file:  # the usual permissions: cassettes are meant to be committed
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
