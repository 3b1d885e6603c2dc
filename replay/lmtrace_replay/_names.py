"""File names made from the names of tests, which hold anything: slashes, NUL, ``CON``, 300 bytes, two that differ by case.

A name that is plain stays as it is, so that a folder of cassettes reads like the list of its tests. Any other loses what is
not plain and gets a digest of the whole, so that no two tests share a file on any file system, and none leaves its folder.
The result depends on the test's own name only: selecting or reordering tests never renames a cassette.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

MOST_BYTES: Final = 141
"""Of a name without its suffix: with ``.cassette`` it has 150 bytes, which even encrypted home folders allow."""

_STRANGE: Final = re.compile(r"[^\w\[\]()+=,@. -]+")
_STRANGE_PARAMETER: Final = re.compile(r"[^a-z0-9_\[\]()+=,@. -]")  # of these, case alone may tell two tests apart
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def file_stem(name: str, *, twin: bool = False) -> str:
    """The name of a test as the name of its file, without a suffix; at most `MOST_BYTES` bytes.

    Args:
        name: As in ``TestClass.test_method[parameters]``.
        twin: Whether its module holds another name that differs by case only.
    """
    site, bracket, parameters = name.partition("[")
    plain = _STRANGE.sub("-", site) + _STRANGE_PARAMETER.sub("-", (bracket + parameters).lower())
    reserved = _RESERVED.match(plain) is not None or plain.startswith((".", " ")) or not plain
    if plain == name and not (twin or reserved or _size(plain) > MOST_BYTES):
        return plain
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return _cut(f"_{plain}" if reserved else plain, MOST_BYTES - len(digest) - 1) + "~" + digest


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _cut(text: str, size: int) -> str:
    """As many whole characters as have a place in `size` bytes."""
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")
