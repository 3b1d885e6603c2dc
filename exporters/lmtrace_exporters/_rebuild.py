"""Make the catalog again from the segments, when it is lost or damaged.

Each segment says which files were written with it and which journals or segments it was made from. A set that is
complete counts and its journals do not; a set that is not complete was never committed, and its journals count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmtrace_exporters._batch import Group
from lmtrace_exporters._catalog import Segment, create, load
from lmtrace_exporters._layout import Layout
from lmtrace_exporters._parquet import Plan, describe, now_us, origin_of
from lmtrace_exporters._quarantine import quarantine_file
from lmtrace_exporters._rowsql import quote
from lmtrace_exporters._snapshot import file_sha256
from lmtrace_exporters._tidy import end_grace, segment_files

if TYPE_CHECKING:
    import duckdb

Origins = Mapping[str, Mapping[str, Any]]


def rebuild_if_needed(connection: duckdb.DuckDBPyConnection, layout: Layout, *, force: bool = False) -> bool:
    """Make a lost or damaged catalog again, with `force` a sound one too; tell whether that was done.

    Raises:
        OSError: the store cannot be written.
    """
    catalog = load(layout)
    if layout.catalog.exists() and not catalog.problems:
        if not force:
            return False
        end_grace(layout, catalog, 0)  # what was replaced must not come back
    origins = _origins(connection, layout)
    if not origins and not catalog.problems:
        create(layout)  # before any segment, so that one without a catalog always means a loss
        return False
    replaced = {path for origin in origins.values() for path in origin.get("replaces", ())}
    committed = {path: origin for path, origin in origins.items() if _is_complete(origin, origins, replaced, layout)}
    segments = [_describe(connection, layout, path) for path in committed if path not in replaced]
    journals = {name: rows for origin in committed.values() for name, rows in origin.get("journals", {}).items()}
    reason = "; ".join(catalog.problems) or "was replaced by a new catalog"
    for name in _with_content(layout):  # from here until the new one is in place, the catalog is lost, and known to be
        quarantine_file(layout, name, reason)
    create(layout, segments, journals.items(), now_us())
    return True


def _with_content(layout: Layout) -> Iterator[str]:
    """The catalog and its log; SQLite leaves an empty log and its shared memory behind, in which there is nothing to keep."""
    log = layout.catalog.with_name(f"{layout.catalog.name}-wal")
    if layout.catalog.exists():
        yield layout.catalog.name
    if log.exists() and log.stat().st_size > 0:
        yield log.name


def _origins(connection: duckdb.DuckDBPyConnection, layout: Layout) -> dict[str, dict[str, Any]]:
    found = {path.relative_to(layout.root).as_posix(): origin_of(connection, path) for path in _whole_files(layout)}
    return {path: origin for path, origin in found.items() if origin is not None}


def _whole_files(layout: Layout) -> list[Path]:
    """Segments under one name each: a merged file may have two, of which the final one counts."""
    files = [path for path in segment_files(layout) if path.suffix != ".tmp"]
    return [path for path in files if path.suffix == ".parquet" or path.with_suffix("") not in files]


def _is_complete(origin: Mapping[str, Any], origins: Origins, replaced: set[str], layout: Layout) -> bool:
    if all(_exists(path, origins) or path in replaced for path in origin["files"]):
        return True
    return not any((layout.journal / name).exists() for name in origin.get("journals", ()))


def _exists(path: str, origins: Origins) -> bool:
    return path in origins or path.removesuffix(".waiting") in origins


def _describe(connection: duckdb.DuckDBPyConnection, layout: Layout, path: str) -> Segment:
    file = layout.root / path
    found = connection.execute(
        f"SELECT count(*), min(epoch_us(timestamp)), max(epoch_us(timestamp)) FROM read_parquet({quote(file)})"
    ).fetchone()
    rows, first, last = found or (0, 0, 0)
    plan = Plan(path, "", Group(rows, first, last), {})
    return describe(plan, file.stat(), file_sha256(file))
