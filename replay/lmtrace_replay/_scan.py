"""Looking for credentials in what is about to be written to a file that will be committed.

What the recorder knows to be secret is gone from a recording already. This looks once more, and for everything that is shaped
like a well-known key, because a cassette is read by more people than a store is. It refuses rather than redacts: a request
with a hole in it would never be found again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from lmtrace._redactor import Redactor, hide_shapes
from lmtrace._secrets import looks_secret
from lmtrace_replay._errors import CassetteSecretError
from lmtrace_replay._recording import Recording
from lmtrace_replay._tidy import tidy


def refuse_secrets(recordings: Iterable[Recording], where: str) -> None:
    """Return if nothing in `recordings` looks like a credential.

    Raises:
        CassetteSecretError: something does; the message says where, not what.
    """
    redactor = Redactor()
    found = [
        f"call {number}, {part}: {what}"
        for number, recording in enumerate(recordings, 1)
        for part, wire in tidy(recording.to_wire()).items()
        for what in _secrets_in(wire, redactor)
    ]
    if found:
        raise CassetteSecretError(_message(found, where))


def _message(found: Sequence[str], where: str) -> str:
    listed = "\n".join(f"  {one}" for one in found[:10])
    more = f"\n  … and {len(found) - 10} more" if len(found) > 10 else ""
    return (
        f"{where} was not written, because it would hold what looks like credentials:\n{listed}{more}\n"
        "Take them out of the prompt, or add a redactor: lmtrace.configure(redact=[…]) or `redact` in the settings"
    )


def _secrets_in(wire: Any, redactor: Redactor) -> list[str]:
    """What in a JSON value looks like a credential, without the credential."""
    text = orjson.dumps({"value": wire})
    found = [] if hide_shapes(text) == text else ["something shaped like a key"]
    if redactor.line(text, {}) != text:
        found += [f"the value of {name}" for name in _variables_in(text)] or ["a credential of the environment"]
    return found


def _variables_in(text: bytes) -> list[str]:
    return [
        name
        for name, value in sorted(os.environ.items())
        if len(value) >= 6
        and looks_secret(name)
        and orjson.dumps(value.encode("utf-8", "replace").decode())[1:-1] in text
    ]
