"""What failed its checksum is kept apart and reported, so that nobody has to wonder where rows went.

Each finding is a JSON report, and beside it the damaged bytes. A name depends only on the finding, so a compaction that
is killed and repeated reports it once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lmtrace_exporters._layout import Layout, write_whole


def quarantine_lines(layout: Layout, journal: str, reason: str, lines: Iterable[tuple[int, bytes]]) -> None:
    """Keep lines of a journal, each with its offset, and report why they are not served.

    Raises:
        OSError: the store cannot be written.
    """
    found = list(lines)
    name = f"{journal}.{found[0][0]}"
    _folder(layout)
    write_whole(layout.quarantine / name, b"\n".join(line.rstrip(b"\n") for _, line in found) + b"\n")
    _report(layout, name, f"journal/{journal}", reason, rows=len(found), offsets=[offset for offset, _ in found])


def quarantine_file(layout: Layout, path: str, reason: str, rows: int | None = None) -> None:
    """Move a whole file of the store away, if it is there at all, and report why.

    Raises:
        OSError: the store cannot be written.
    """
    name = path.replace("/", "_")
    _folder(layout)
    _report(layout, name, path, reason, rows=rows)
    source = layout.root / path
    if source.exists():
        source.replace(layout.quarantine / name)


def reports(layout: Layout) -> Iterable[tuple[str, str]]:
    """Yield the path and the reason of everything in quarantine, and of a compaction that failed."""
    failed = layout.root / "compact.error"
    if failed.exists():
        yield failed.name, f"the last compaction failed: {failed.read_text(errors='replace').strip()}"
    for path in sorted(layout.quarantine.glob("*.report.json")):
        yield f"quarantine/{path.name}", _reason(path)


def _folder(layout: Layout) -> None:
    layout.quarantine.mkdir(mode=0o700, exist_ok=True)


def _report(layout: Layout, name: str, path: str, reason: str, **details: Any) -> None:
    report = {"file": path, "reason": reason, **details, "found": datetime.now(UTC).isoformat(timespec="seconds")}
    write_whole(layout.quarantine / f"{name}.report.json", json.dumps(report, indent=2).encode() + b"\n")


def _reason(path: Path) -> str:
    try:
        report = json.loads(path.read_bytes())
        rows = "" if report.get("rows") is None else f", {report['rows']} rows"
        return f"{report['file']}: {report['reason']}{rows}"
    except (OSError, ValueError, KeyError, TypeError):
        return "the report cannot be read"
