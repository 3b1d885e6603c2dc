"""The columns of the store: the one table from which rows, views, segments and documentation are made.

A column's name and type never change once released; new columns are added at the end of their group, and a reader
gives an old file NULL for them. `SCHEMA_VERSION` is ``major.minor``: the minor number counts additions, a reader
refuses a newer major number.
"""

from __future__ import annotations

from typing import Final

STORE_FORMAT: Final = 1
"""Major version of the store directory and of every line in it."""

SCHEMA_VERSION: Final = 1
"""Version of the rows, written in every one of them."""

CALL_COLUMNS: Final[dict[str, str]] = {
    "uuid": "VARCHAR",
    "timestamp": "TIMESTAMPTZ",
    "duration_ms": "DOUBLE",
    "time_to_first_chunk_ms": "DOUBLE",
    "trace_id": "VARCHAR",
    "span_id": "VARCHAR",
    "parent_span_id": "VARCHAR",
    "run_id": "VARCHAR",
    "run_name": "VARCHAR",
    "tags": "MAP(VARCHAR, VARCHAR)",
    "scope": "VARCHAR",
    "operation": "VARCHAR",
    "model_type": "VARCHAR",
    "provider": "VARCHAR",
    "model": "VARCHAR",
    "response_model": "VARCHAR",
    "response_id": "VARCHAR",
    "prompt": "VARCHAR",
    "messages": "JSON",
    "kwargs": "JSON",
    "tools": "JSON",
    "rollout_id": "VARCHAR",
    "temperature": "DOUBLE",
    "max_tokens": "BIGINT",
    "outputs": "JSON",
    "output_text": "VARCHAR",
    "finish_reasons": "VARCHAR[]",
    "response": "JSON",
    "chunks": "JSON",
    "input_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "total_tokens": "BIGINT",
    "reasoning_tokens": "BIGINT",
    "cache_read_tokens": "BIGINT",
    "cache_write_tokens": "BIGINT",
    "usage": "JSON",
    "cost": "DOUBLE",
    "cost_source": "VARCHAR",
    "billed_cost": "DOUBLE",
    "cache_hit": "BOOLEAN",
    "served_by": "VARCHAR",
    "request_key": "VARCHAR",
    "cache_name": "VARCHAR",
    "attempts": "INTEGER",
    "streamed": "BOOLEAN",
    "error_type": "VARCHAR",
    "error_message": "VARCHAR",
    "error_status": "INTEGER",
    "error_code": "VARCHAR",
    "error_retry_after": "DOUBLE",
    "schema_version": "INTEGER",
    "lmtrace_version": "VARCHAR",
    "host": "VARCHAR",
    "pid": "INTEGER",
    "thread": "VARCHAR",
    "path": "VARCHAR",
    "adapter": "VARCHAR",
    "signature": "VARCHAR",
    "evaluation_id": "VARCHAR",
    "example_id": "VARCHAR",
}
"""One row per finished LM call. `cache_name` says under which name the cache may give the answer again; it is null where the
caller did not allow that, and where redaction of the user's may have changed the answer. `output_text` is not in the journal: readers and the compactor derive it."""

OUTPUT_TEXT_SQL: Final = (
    "CASE json_type(outputs, '$[0]') WHEN 'VARCHAR' THEN outputs ->> '$[0]' ELSE outputs ->> '$[0].text' END"
)
"""The text of the first candidate, from `outputs`."""

SPAN_COLUMNS: Final[dict[str, str]] = {
    "span_id": "VARCHAR",
    "trace_id": "VARCHAR",
    "parent_span_id": "VARCHAR",
    "timestamp": "TIMESTAMPTZ",
    "duration_ms": "DOUBLE",
    "name": "VARCHAR",
    "span_kind": "VARCHAR",
    "scope": "VARCHAR",
    "status": "VARCHAR",
    "error_type": "VARCHAR",
    "inputs": "JSON",
    "outputs": "JSON",
    "attributes": "JSON",
    "run_id": "VARCHAR",
    "run_name": "VARCHAR",
    "tags": "MAP(VARCHAR, VARCHAR)",
    "schema_version": "INTEGER",
    "lmtrace_version": "VARCHAR",
    "host": "VARCHAR",
    "pid": "INTEGER",
    "thread": "VARCHAR",
}
"""One row per stored span that is not an LM call: runs now, modules, tools and adapters with DSPy.

`span_kind` says which; the `spans` view calls it `kind`, a word that a journal line needs for itself."""
