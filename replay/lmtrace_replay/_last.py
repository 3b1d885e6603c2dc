"""The misses of the last session that had some, for ``lmtrace why --last``.

Kept as plain JSON in the user's state folder, never beside a store: a replay writes to no store. Texts in it were redacted
and cut when the misses were made.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import orjson
import platformdirs

from lmtrace._failures import failures
from lmtrace_replay._miss import Miss

_MOST = 50
"""Misses that are kept."""


def last_misses_path() -> Path:
    """Where the misses of the last session are."""
    return Path(platformdirs.user_state_path("lmtrace")) / "last-miss.json"


def remember(misses: Sequence[Miss]) -> None:
    """Keep `misses` instead of those kept before; a failure to write is noted and harms nothing."""
    path = last_misses_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = orjson.dumps([miss.to_wire() for miss in misses[:_MOST]], option=orjson.OPT_INDENT_2)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        failures.note("last_miss", error)


def last_misses() -> tuple[Miss, ...]:
    """The misses that were kept; none when there are none.

    Raises:
        ValueError: the file is damaged.
    """
    path = last_misses_path()
    if not path.exists():
        return ()
    kept = orjson.loads(path.read_bytes())
    if not isinstance(kept, list):
        raise ValueError(f"{path} is damaged; remove it")
    return tuple(Miss.from_wire(wire) for wire in kept)
