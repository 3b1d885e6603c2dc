"""The process that runs one untrusted query; see `_untrusted`.

It takes a task as a line of JSON, opens the store, locks DuckDB and itself, says that it is ready, and answers with a line
of JSON. What it may still do after the lock is to read the files of this store, use a little memory and a little time.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from lmtrace_exporters._duck import connect
from lmtrace_exporters._errors import HistoryQueryError, QueryLimitError, QueryRefusedError, StoreError
from lmtrace_exporters._history import History
from lmtrace_exporters._select_only import check_select

if TYPE_CHECKING:
    import duckdb

_PROGRAM_BYTES: Final = 2 << 30
"""Address space of Python, DuckDB and their threads before the first query."""


def main() -> None:
    """Answer the task on stdin and end without cleaning up."""
    task = json.loads(sys.stdin.buffer.readline())
    _say(_answer(task))
    os._exit(0)


def _answer(task: dict[str, Any]) -> dict[str, Any]:
    import duckdb

    try:
        with connect() as parser:
            check_select(parser, task["query"])
        return _run(task)
    except QueryRefusedError as error:
        return {"error": "refused", "message": str(error)}
    except (QueryLimitError, duckdb.OutOfMemoryException, MemoryError) as error:
        return {"error": "limit", "message": str(error).strip().partition("\n")[0] or "too much memory"}
    except (StoreError, OSError) as error:
        return {"error": "store", "message": str(error)}
    except duckdb.IOException as error:
        return {"error": "gone" if "No files found" in str(error) else "refused", "message": _first_line(error)}
    except duckdb.PermissionException as error:
        return {"error": "refused", "message": _first_line(error)}
    except (duckdb.Error, HistoryQueryError) as error:
        return {"error": "query", "message": _first_line(error)}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _run(task: dict[str, Any]) -> dict[str, Any]:
    _limit_process(task)
    since, until = (datetime.fromisoformat(text) if text else None for text in task["period"])
    history = History(task["store"], since=since, until=until)
    connection = history._lock(task["memory_mb"])
    _forbid_writing()
    _say({"ready": True})
    relation = connection.sql(task["query"]).limit(task["rows"] + 1)
    rows = _rows(relation, task["bytes"])
    return {
        "columns": relation.columns,
        "types": [str(type_) for type_ in relation.types],
        "rows": rows[: task["rows"]],
        "truncated": len(rows) > task["rows"],
    }


def _rows(relation: duckdb.DuckDBPyRelation, most_bytes: int) -> list[orjson.Fragment]:
    found: list[orjson.Fragment] = []
    left = most_bytes
    for row in relation.fetchall():
        text = _encoded(row)
        left -= len(text)
        if left < 0:
            raise QueryLimitError(f"the answer is larger than {most_bytes >> 20} MB")
        found.append(orjson.Fragment(text))
    return found


def _encoded(row: tuple[Any, ...]) -> bytes:
    return orjson.dumps(row, default=_plain, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes | bytearray | memoryview) else str(value)


def _limit_process(task: dict[str, Any]) -> None:
    """Let the operating system end what DuckDB's own limits do not see."""
    if sys.platform == "win32":
        return
    import resource

    _set_limit(resource.RLIMIT_CORE, 0)
    _set_limit(resource.RLIMIT_CPU, int(4 * task["seconds"]) + 30)
    _set_limit(resource.RLIMIT_AS, _PROGRAM_BYTES + (task["memory_mb"] << 20))


def _forbid_writing() -> None:
    if sys.platform != "win32":
        import resource

        _set_limit(resource.RLIMIT_FSIZE, 0)


def _set_limit(which: int, value: int) -> None:
    import resource

    with suppress(ValueError, OSError):  # a lower limit is there already
        resource.setrlimit(which, (value, value))


def _say(line: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
