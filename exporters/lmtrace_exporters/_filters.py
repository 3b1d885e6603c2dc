"""Write the filters of segments that will stay as they are, and remove those of segments that are gone.

A filter is made from the Parquet file itself, after it counts: a compaction that is killed in between leaves nothing wrong, and
the next one makes what is missing. Segments of the current day that will be merged are left without; a search reads the newest
rows first anyway.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from lmtrace_exporters._catalog import Catalog, Segment, load
from lmtrace_exporters._errors import StoreError
from lmtrace_exporters._filter_file import SUFFIX, Flaw, Part, examine, filter_path, save
from lmtrace_exporters._grams import MULTIPLIER, fold
from lmtrace_exporters._layout import Layout
from lmtrace_exporters._merge import SMALL_BYTES
from lmtrace_exporters._snapshot import damage

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

TEXTS: Final = ("messages", "prompt", "outputs", "error_type", "error_message")
"""The columns whose texts a filter knows."""

_WINDOW: Final = 4 << 20
"""Bytes of text at a time, whose copies are then small enough for any machine."""
_BITS_PER_GRAM: Final = 4
_SHARE: Final = 32
"""A bitmap is at most so small a part of its row group's bytes, whatever is in the texts."""
_LEAST_BITS: Final = 13


def refresh_filters(layout: Layout, step: Callable[[str], None] = lambda _: None) -> int:
    """Make the set of filters what the catalog asks for, under the lock of compactions. Return how many were written.

    Raises:
        StoreError: a segment cannot be read.
        OSError: the store cannot be written.
    """
    catalog = load(layout)
    if catalog.problems or sys.byteorder != "little":
        return 0
    _remove_others(layout, catalog)
    wanting = [segment for segment in catalog.segments if _is_wanting(layout, segment)]
    for segment in wanting:
        save(layout, segment, list(_parts(layout, segment)))
        step("filter-written")
    return len(wanting)


def _remove_others(layout: Layout, catalog: Catalog) -> None:
    """Remove the filters of segments that the catalog does not know."""
    known = {filter_path(layout, segment) for segment in (*catalog.segments, *catalog.dropped)}
    for path in set(layout.filters.glob(f"*{SUFFIX}")) - known:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)


def _is_wanting(layout: Layout, segment: Segment) -> bool:
    is_final = segment.bytes >= SMALL_BYTES or segment.date < datetime.now(UTC).date().isoformat()
    if segment.kind != "call" or not segment.rows or not is_final:
        return False
    lacking = examine(layout, segment) in (Flaw.MISSING, Flaw.DAMAGED, Flaw.FOREIGN)
    return lacking and damage(layout, segment) is None


def _parts(layout: Layout, segment: Segment) -> Iterator[Part]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with closing(parquet.ParquetFile(layout.root / segment.path)) as file:
            for number in range(file.num_row_groups):
                rows = file.metadata.row_group(number).num_rows
                grams = grams_of(_texts(file, number))
                yield Part(rows, bitmap_of(grams, segment.bytes * rows // segment.rows))
    except pa.ArrowException as error:
        raise StoreError(f"{segment.path} cannot be read to make its filter: {error}") from error


def _texts(file: ParquetFile, number: int) -> bytes:
    """Return all texts of a row group, one behind the other: a gram of two of them is one too many, which is allowed."""
    import pyarrow as pa

    there = [name for name in TEXTS if name in file.schema_arrow.names]
    table = file.read_row_group(number, columns=there, use_threads=False)
    chunks = (chunk.cast(pa.large_string()) for column in table.columns for chunk in column.chunks)
    buffers = (chunk.buffers()[2] for chunk in chunks)
    return b" ".join(buffer for buffer in buffers if buffer is not None)


def grams_of(texts: bytes) -> pa.Array:
    """Return the distinct grams of a text: those of four bytes at even offsets, and all of three."""
    import pyarrow as pa
    from pyarrow import compute

    padded = fold(texts)
    padded += b" " * (8 - len(padded) % 4)
    fours = []
    for start in range(0, len(padded) - 4, _WINDOW):
        end = min(start + _WINDOW, len(padded) - 4)
        views = [_numbers(padded[start + shift : end + shift]) for shift in (0, 2)]
        fours.append(compute.unique(pa.chunked_array(views)))
    four = compute.unique(pa.chunked_array(fours))
    eight, mask = pa.scalar(8, pa.uint32()), pa.scalar(0xFFFFFF, pa.uint32())
    threes = [compute.bit_wise_and(four, mask), compute.shift_right(four, eight)]
    return compute.unique(pa.chunked_array([four, *threes]))


def _numbers(data: bytes) -> pa.Array:
    import pyarrow as pa

    return pa.Array.from_buffers(pa.uint32(), len(data) // 4, [None, pa.py_buffer(data)])


def bitmap_of(grams: pa.Array, group_bytes: int) -> bytes:
    import pyarrow as pa
    from pyarrow import compute

    bits = (_BITS_PER_GRAM * len(grams)).bit_length()
    bits = max(_LEAST_BITS, min(bits, (group_bytes * 8 // _SHARE).bit_length() - 1))
    spread = compute.multiply(grams, pa.scalar(MULTIPLIER, pa.uint32()))
    places = compute.shift_right(spread, pa.scalar(32 - bits, pa.uint32()))
    bitmap = bytearray(1 << (bits - 3))
    for place in compute.unique(places).to_pylist():
        bitmap[place >> 3] |= 1 << (place & 7)
    return bytes(bitmap)
