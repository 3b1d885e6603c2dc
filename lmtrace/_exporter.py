"""Where finished records go: the contract between the core and every sink.

An exporter sees a record only after redaction and only in its serialised form, so no sink can leak what the redactor
removed or hold on to an object the caller still mutates. The method names and meanings are OpenTelemetry's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import orjson


@dataclass(frozen=True, slots=True)
class Record:
    """One finished, redacted and serialised record."""

    kind: Literal["call", "span"]
    """Which of the two column tables of the schema `line` follows."""

    line: bytes
    """One JSON object without a trailing newline; its first key is ``"kind"``."""

    @property
    def row(self) -> dict[str, Any]:
        """A fresh dictionary of the record's columns, `kind` left out."""
        row: dict[str, Any] = orjson.loads(self.line)
        del row["kind"]
        return row


class Exporter(Protocol):
    """A sink for records."""

    def export(self, records: Sequence[Record]) -> None:
        """Take the records over; when this returns they are as durable as the sink promises.

        Raises:
            Exception: anything; the caller counts it, logs it once a minute and goes on.
        """

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Bring everything exported so far to its destination; tell whether that was done in time."""

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Flush and close. Records exported afterwards are an error."""
