"""The text of a cassette: JSON that is reviewed in a diff, the same bytes for the same recordings.

    {
      "lmtrace": "cassette",
      "format": 1,
      "key": "lm1",
      "versions": {"lmtrace": "0.1.0", "litellm": "1.106.2"},
      "adapter": "ChatAdapter",
      "models": ["openai/gpt-4o-mini"],
      "calls": [{"key": "lm1:…", "scope": "RAG.answer", "path": "0.1", "request": {…}, "response": {…}}]
    }

Calls are ordered by logical path and inside a task as they were made. Keys are computed anew when a text is read; one that
stands beside a request it does not belong to means that somebody edited the request. Reading never trusts the text: it is
plain data, from which nothing is run, opened or looked up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import orjson

from lmtrace._keys import KEY_VERSION, request_key
from lmtrace._visible import json_safe
from lmtrace_replay._errors import CassetteError, CassetteTamperedError, CassetteVersionError
from lmtrace_replay._ids import with_stable_ids
from lmtrace_replay._lines import joined, original, readable
from lmtrace_replay._recording import Recording
from lmtrace_replay._tidy import restored, tidy

if TYPE_CHECKING:
    from lmtrace._entry import HistoryEntry

FORMAT: Final = 1
"""Major version of the format; a reader refuses a higher one."""

_KIND: Final = "cassette"
_HEADER: Final = frozenset({"lmtrace", "format", "key", "versions", "adapter", "models", "cancelled", "calls"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the recordings of a cassette were made with, as far as it was known."""

    key_version: str = KEY_VERSION
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of lmtrace, and of litellm and dspy where they took part."""
    adapter: str | None = None
    """The DSPy adapter that wrote the prompts."""
    cancelled: Sequence[str] = ()
    """Keys of the requests that the program cancelled and never got an answer to: a miss can say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cassette:
    """A set of recordings and what they were made with."""

    header: Header
    recordings: Sequence[Recording]
    where: str = "cassette"
    """Where it was read from, for messages."""

    @property
    def models(self) -> list[str]:
        """The models that were asked, sorted."""
        return models_of(self.recordings)


def models_of(recordings: Iterable[Recording]) -> list[str]:
    """The models that were asked, sorted."""
    return sorted({recording.request.model for recording in recordings})


def dumps(recordings: Iterable[Recording], header: Header | None = None, *, timing: bool = False) -> str:
    """The text of a cassette.

    Args:
        recordings: What it holds, in the order the calls of each task were made.
        header: What they were made with; by default `current_header`.
        timing: Whether to keep when the chunks of streams arrived, which differs in each recording.

    Raises:
        CassetteError: a recording is nested too deep to be read back.
    """
    ordered = in_order(recordings)
    if header is None:
        from lmtrace_replay._header import current_header

        header = current_header(ordered)
    entries = with_stable_ids([tidy(recording.to_wire(), timing=timing) for recording in ordered])
    try:
        calls = [readable(_keyed(entry)) for entry in entries]
    except ValueError as error:
        raise CassetteError(f"cannot write a cassette: {error}") from None
    return _text(header, models_of(ordered), calls)


Placed = TypeVar("Placed", Recording, "HistoryEntry")


def in_order(calls: Iterable[Placed]) -> list[Placed]:
    """Recordings or calls by logical path; inside a task, and where there are no paths, in time and as they came."""
    return sorted(calls, key=lambda call: (_path(call.path), call.timestamp_ns))


def _path(path: str | None) -> tuple[tuple[int, str], ...]:
    parts = path.split(".") if path else ()
    return tuple((int(part), "") if part.isdecimal() and len(part) < 19 else (2**63, part) for part in parts)


def _keyed(entry: dict[str, Any]) -> dict[str, Any]:
    return {"key": request_key(Recording.from_wire({"request": entry["request"]}).request), **entry}


def _text(header: Header, models: list[str], calls: list[Any]) -> str:
    document: dict[str, Any] = {"lmtrace": _KIND, "format": FORMAT, "key": KEY_VERSION}
    document["versions"] = dict(sorted(header.versions.items()))
    if header.adapter is not None:
        document["adapter"] = header.adapter
    document["models"] = models
    if header.cancelled:
        document["cancelled"] = sorted(header.cancelled)
    document["calls"] = calls
    return _canonical(document).decode()


def _canonical(document: Any) -> bytes:
    data = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return data if data.isascii() and b"\x7f" not in data else json_safe(data.decode()).encode()


def loads(text: bytes, where: str = "cassette", *, trust_keys: bool = False) -> Cassette:
    """The cassette that a text describes.

    Args:
        text: The file, whole.
        where: What to call it in messages.
        trust_keys: Whether a request may have been edited, so that its key is another one now.

    Raises:
        CassetteVersionError: a newer lmtrace wrote it.
        CassetteTamperedError: a request was edited.
        CassetteError: it is no cassette, or a damaged one.
    """
    document, tagged = _parsed(text, where)
    header = _header(document, where)
    check = not trust_keys and header.key_version == KEY_VERSION
    calls = enumerate(_calls(document, where), 1)
    recordings = [_recording(entry, number, where, check=check, tagged=tagged) for number, entry in calls]
    return Cassette(header=header, recordings=recordings, where=where)


def _parsed(text: bytes, where: str) -> tuple[dict[str, Any], bool]:
    """The JSON object in a text, and whether there may be tags in it."""
    tagged = b'"$lmtrace"' in text
    try:
        document = orjson.loads(text)
        if _canonical(document) != text:  # written by hand, or with two values for one key
            tagged = True  # a key may be spelled with escapes
            document = json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except UnicodeDecodeError:
        _damaged(where, "it is not UTF-8")
    except (RecursionError, orjson.JSONEncodeError):
        _damaged(where, "it is nested too deep")
    except ValueError as error:
        _damaged(where, str(error))
    if not isinstance(document, dict) or document.get("lmtrace") != _KIND:
        raise CassetteError(f'{where} is no cassette: it lacks "lmtrace": "cassette"; name another file')
    return document, tagged


def _damaged(where: str, why: str) -> NoReturn:
    raise CassetteError(f"{where} is damaged: {why}; restore it from version control, or record it again")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice in one object"
        )
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _header(document: dict[str, Any], where: str) -> Header:
    version = document.get("format")
    if type(version) is not int or version < 1:
        _damaged(where, f"its format is {version!r}")
    if version > FORMAT:
        raise CassetteVersionError(
            f"{where} has format {version}, and this lmtrace reads up to {FORMAT}: pip install -U lmtrace"
        )
    unknown = document.keys() - _HEADER
    versions, adapter, key = document.get("versions", {}), document.get("adapter"), document.get("key", KEY_VERSION)
    if unknown:
        _damaged(where, f"it has a field {min(unknown)!r}")
    if not isinstance(versions, dict) or not all(type(text) is str for text in versions.values()):
        _damaged(where, "versions must be texts by name")
    cancelled = document.get("cancelled", [])
    if not isinstance(cancelled, list) or not all(type(text) is str for text in cancelled):
        _damaged(where, "cancelled must be an array of keys")
    if not isinstance(key, str) or not (adapter is None or isinstance(adapter, str)):
        _damaged(where, "key and adapter must be texts")
    return Header(key_version=key, versions=versions, adapter=adapter, cancelled=tuple(cancelled))


def _calls(document: dict[str, Any], where: str) -> list[Any]:
    calls = document.get("calls")
    if not isinstance(calls, list):
        _damaged(where, "calls must be an array")
    return calls


def _recording(entry: Any, number: int, where: str, *, check: bool, tagged: bool) -> Recording:
    try:
        wire = original(entry) if tagged else entry
        if not tagged:
            joined(wire)
        claimed = wire.pop("key", None)
        recording = restored(wire, tagged=tagged)
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        _damaged(f"call {number} of {where}", str(error) or type(error).__name__)
    if check and claimed is not None and claimed != recording.request_key:
        raise CassetteTamperedError(
            f"call {number} of {where} was edited: its request is not the one its key was made of; undo the edit, or accept it with: "
            f"lmtrace cassette rekey {where}"
        )
    return recording
