"""One journal line: a JSON object whose last key is the checksum of everything before it.

The checksum makes a flipped bit visible in a line that is still valid JSON. A line counts only when its newline is
there too, so an append that was cut short never looks complete.
"""

from __future__ import annotations

from typing import Final
from zlib import crc32

KEEPS_GIL: Final = 5 * 1024
"""zlib releases the GIL for longer input; with CPU-bound threads beside, getting it back costs milliseconds."""

SUFFIX_LENGTH: Final = len(b',"crc32":"00000000"}')


def frame(line: bytes) -> bytes:
    """Return one JSON object as a journal line, with its checksum and newline."""
    body = memoryview(line)[:-1]  # a second copy of the payload would cost as much as its checksum
    return b"".join((body, b',"crc32":"%08x"}\n' % checksum(body)))


def checksum(body: bytes | memoryview) -> int:
    """Return the CRC-32 of `body` without ever letting go of the GIL."""
    if len(body) <= KEEPS_GIL:
        return crc32(body)
    view, value = memoryview(body), 0
    for start in range(0, len(body), KEEPS_GIL):
        value = crc32(view[start : start + KEEPS_GIL], value)
    return value


def is_intact(line: bytes) -> bool:
    """Tell whether a line, given without its newline, is what was written."""
    cut = len(line) - SUFFIX_LENGTH
    return cut > 0 and line[cut:] == b',"crc32":"%08x"}' % crc32(memoryview(line)[:cut])


def is_whole(line: bytes) -> bool:
    """Tell whether a line, given with its newline, is what was written."""
    cut = len(line) - SUFFIX_LENGTH - 1
    return cut > 0 and line.endswith(b',"crc32":"%08x"}\n' % crc32(memoryview(line)[:cut]))


def lost_newline(tail: bytes) -> bool:
    """Tell whether what follows the last newline is a whole line whose own newline was damaged."""
    return is_intact(tail[:-1])


def payload(line: bytes) -> bytes:
    """Return the JSON object of an intact line as it was before `frame`."""
    return line[:-SUFFIX_LENGTH] + b"}"
