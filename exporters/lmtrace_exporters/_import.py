"""Bring exported rows into a store, each once however often it is tried.

A row is known by its uuid, a span by its trace and span id. Everything is checked before anything is written: a file of a
newer major version changes nothing, a line that is no row is named and left out. What a newer minor version added stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

import orjson

from lmtrace._exporter import Record
from lmtrace._schema import SCHEMA_VERSION
from lmtrace_exporters._errors import StoreError, StoreVersionError
from lmtrace_exporters._exported import Found, read_exported
from lmtrace_exporters._history import open_history
from lmtrace_exporters._layout import Layout
from lmtrace_exporters._locks import hold_lock
from lmtrace_exporters._store import StoreExporter

_PORTION: Final = 500


@dataclass(slots=True)
class ImportReport:
    """What an import did."""

    calls: int = 0
    """Calls that are new in the store."""
    spans: int = 0
    """Spans that are new in the store."""
    known: int = 0
    """Rows that were there already."""
    refused: list[str] = field(default_factory=list)
    """Where in the file something is no row, and why."""


def import_history(source: str | os.PathLike[str], store: str | os.PathLike[str]) -> ImportReport:
    """Add the rows that ``lmtrace export``, a `JSONLExporter` or a `ParquetExporter` wrote to a store.

    Args:
        source: a file of JSON lines or Parquet, or a folder of Parquet files.
        store: the store's directory; made when it does not exist.

    Raises:
        StoreVersionError: the store, or a row, is of a newer major version; nothing was imported.
        StoreError: the file holds no rows at all, or another import into the store is running.
        OSError: the file cannot be read, or the store not be written.
    """
    source, layout = Path(source), Layout(Path(store).absolute())
    layout.create()
    with hold_lock(layout.root / "import.lock", create=True) as held:
        if not held:
            raise StoreError(f"another import into {layout.root} is running")
        report = ImportReport()
        wanted = _check(source, report)
        present = _present(layout.root, wanted)
        _copy(source, layout.root, present, report)
    return report


Identity = tuple[str, str, str]


def _identity(found: Found) -> Identity:
    row = found.row
    return (
        (found.kind, "", row["uuid"]) if found.kind == "call" else ("span", row.get("trace_id") or "", row["span_id"])
    )


def _check(source: Path, report: ImportReport) -> set[Identity]:
    """Note what is no row, and return the others' identities."""
    wanted = set()
    for found in read_exported(source):
        if found.problem is not None:
            report.refused.append(f"{found.place}: {found.problem}")
            continue
        if found.row.get("schema_version", 0) > SCHEMA_VERSION:
            raise StoreVersionError(
                f"{source}, {found.place}: rows of version {found.row['schema_version']}, and this lmtrace reads up to "
                f"{SCHEMA_VERSION}: upgrade lmtrace; nothing was imported"
            )
        wanted.add(_identity(found))
    if not wanted:
        why = f" ({report.refused[0]})" if report.refused else ""
        raise StoreError(f"{source} holds no rows that lmtrace exported{why}")
    return wanted


def _present(store: Path, wanted: set[Identity]) -> set[Identity]:
    uuids = [name for kind, _, name in wanted if kind == "call"]
    traces = [trace for kind, trace, _ in wanted if kind == "span"]
    with open_history(store) as history:
        calls = history.sql("SELECT uuid FROM calls WHERE uuid IN (SELECT unnest(?))", [uuids]).fetchall()
        query = "SELECT coalesce(trace_id, ''), span_id FROM stored_spans WHERE coalesce(trace_id, '') IN (SELECT unnest(?))"
        spans = history.sql(query, [traces]).fetchall()
    return {("call", "", uuid) for (uuid,) in calls} | {("span", trace, span) for trace, span in spans}


def _copy(source: Path, store: Path, present: set[Identity], report: ImportReport) -> None:
    exporter = StoreExporter(store)
    try:
        rows = _new_rows(source, present, report)
        while portion := list(islice(rows, _PORTION)):
            exporter.export([Record(cast("Any", found.kind), _line(found)) for found in portion])
            _count(portion, report)
        if not exporter.force_flush():
            raise StoreError(f"the rows could not be synced to {store}; import again")
    finally:
        exporter.shutdown()


def _new_rows(source: Path, present: set[Identity], report: ImportReport) -> Iterator[Found]:
    for found in read_exported(source):
        if found.problem is not None:
            continue
        identity = _identity(found)
        if identity in present:
            report.known += 1
        else:
            present.add(identity)
            yield found


def _count(portion: Sequence[Found], report: ImportReport) -> None:
    calls = sum(found.kind == "call" for found in portion)
    report.calls += calls
    report.spans += len(portion) - calls


def _line(found: Found) -> bytes:
    return orjson.dumps({"kind": found.kind, **found.row})
