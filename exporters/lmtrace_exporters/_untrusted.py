"""SQL from somebody who may read the history and nothing else: one SELECT, in a process that is killed when it takes too much.

`interrupt` does not stop every query (a long string goes on for twenty seconds) and memory limits do not see every
allocation, so the query runs in a child: without the parent's environment and files, under limits of the operating system,
and killed by the clock.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from lmtrace_exporters._errors import HistoryQueryError, QueryLimitError, QueryRefusedError, StoreError
from lmtrace_exporters._layout import Layout

_START_SECONDS: Final = 30.0
"""A child that has not opened the store by then is given up."""

_MOST_BYTES: Final = 32 << 20
_LONGEST_QUERY: Final = 100_000
_CHUNK: Final = 1 << 16
_ENVIRONMENT: Final = (
    "PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "LD_LIBRARY_PATH",
    "SYSTEMROOT",
    "TMPDIR",
    "TEMP",
    "TMP",
    "TZ",
)
"""What a child needs to start; everything else may be a secret."""


@dataclass(frozen=True, slots=True)
class UntrustedAnswer:
    """The rows of a query."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    """DuckDB's names of the columns' types."""
    rows: tuple[tuple[Any, ...], ...]
    """Values as JSON has them: times, decimals and bytes are texts."""
    truncated: bool
    """Whether there were more rows than allowed."""


def query_untrusted(
    path: str | os.PathLike[str],
    query: str,
    *,
    seconds: float = 2.0,
    memory_mb: int = 512,
    rows: int = 1_000,
    since: datetime | None = None,
    until: datetime | None = None,
) -> UntrustedAnswer:
    """Answer one SELECT over the views of a store, whoever wrote it.

    Args:
        path: the store directory.
        query: one SELECT; files, settings, variables and statements that change anything are refused.
        seconds: the query is killed after this time; opening the store is not counted.
        memory_mb: how much memory DuckDB may use; nothing is written to the disk instead.
        rows: how many rows are returned at most.
        since: leave out rows that began before this time.
        until: leave out rows that began at or after this time.

    Raises:
        QueryRefusedError: it is not one SELECT over the views.
        QueryLimitError: it took too much time or memory, or its answer is too large.
        HistoryQueryError: it is wrong.
        StoreError: the store cannot be read, or no child process started.
    """
    layout = Layout(Path(path).absolute())
    layout.check()
    if len(query) > _LONGEST_QUERY:
        raise QueryLimitError(f"the query has more than {_LONGEST_QUERY:,} characters")
    times = [moment.isoformat() if moment is not None else None for moment in (since, until)]
    task = {"store": os.fspath(layout.root), "query": query, "seconds": seconds, "memory_mb": memory_mb, "rows": rows}
    task |= {"period": times, "bytes": _MOST_BYTES}
    answer = _ask(task, seconds)
    if answer.get("error") == "gone":  # a compaction deleted a journal meanwhile
        answer = _ask(task, seconds)
    return _answer(answer)


def _answer(answer: dict[str, Any]) -> UntrustedAnswer:
    kind = answer.get("error")
    if kind is None:
        rows = tuple(tuple(row) for row in answer["rows"])
        return UntrustedAnswer(tuple(answer["columns"]), tuple(answer["types"]), rows, answer["truncated"])
    raise _ERRORS.get(kind, HistoryQueryError)(str(answer.get("message")))


_ERRORS: Final[dict[str, type[Exception]]] = {
    "refused": QueryRefusedError,
    "limit": QueryLimitError,
    "store": StoreError,
}


def _ask(task: dict[str, Any], seconds: float) -> dict[str, Any]:
    with _child() as child:
        reader = _Reader(child)
        with suppress(BrokenPipeError):
            assert child.stdin is not None
            child.stdin.write(json.dumps(task).encode() + b"\n")
            child.stdin.close()
        if not reader.ready.wait(_START_SECONDS):
            return {"error": "store", "message": "the store could not be opened in time"}
        reader.thread.join(seconds)
        if reader.thread.is_alive():
            return {"error": "limit", "message": f"the query was stopped after {seconds:g} seconds"}
        return reader.answer()


@contextmanager
def _child() -> Iterator[subprocess.Popen[bytes]]:
    if not sys.executable:
        raise StoreError("no Python interpreter is known that could run the query in a process of its own")
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "lmtrace_exporters._untrusted_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        start_new_session=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


class _Reader:
    """Reads what a child says, up to a size, in a thread that ends when the child does."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self._data = bytearray()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._read, name="lmtrace-untrusted", daemon=True)
        self.thread.start()

    def _read(self) -> None:
        pipe = self._child.stdout
        try:
            while pipe is not None and len(self._data) <= 2 * _MOST_BYTES and (chunk := os.read(pipe.fileno(), _CHUNK)):
                self._data += chunk
                if b"\n" in chunk:
                    self.ready.set()
        except (OSError, ValueError):
            pass  # the parent gave up and closed the pipe
        finally:
            self.ready.set()

    def answer(self) -> dict[str, Any]:
        lines = bytes(self._data).splitlines()
        try:
            answer = json.loads(lines[-1])
        except (IndexError, ValueError):
            answer = None
        if isinstance(answer, dict) and "ready" not in answer:
            return answer
        return {"error": "limit", "message": "the query needed more than it may and its process ended"}
