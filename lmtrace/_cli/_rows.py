"""A call as one line: what was asked, what was answered, what it took."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lmtrace._cli._fields import answers_of, fields_line, inputs_of
from lmtrace._cli._print import Column, print_rows, text
from lmtrace._cli._text import brief_moment, duration, message_text, money, one_line, short_id, tokens, tool_call

if TYPE_CHECKING:
    from rich.text import Text

    from lmtrace._cli._store import Row

PREVIEW = 200
"""Characters of a text that a line can show at most."""

SHOWN = (
    "uuid, timestamp, duration_ms, run_id, run_name, scope, operation, model, prompt, messages, outputs, output_text, "
    "input_tokens, output_tokens, cost, served_by, error_type, error_message, error_status, trace_id, rollout_id, adapter, signature"
)
"""The columns that lines need."""


def asked(row: Row) -> str:
    """The last thing the user said, on one line; of a predictor of DSPy its inputs."""
    inputs = inputs_of(row)
    if inputs:
        return fields_line(inputs, PREVIEW)
    messages = row.get("messages")
    if isinstance(messages, list):
        said = [item for item in messages if isinstance(item, dict) and item.get("role", "user") == "user"]
        content = said[-1].get("content", said[-1]) if said else messages[-1] if messages else None
        return one_line(message_text(content), PREVIEW)
    return one_line(message_text(messages) or row.get("prompt"), PREVIEW)


def answered(row: Row) -> str:
    """The first answer on one line, or the tools it calls, or the error."""
    if row.get("error_type"):
        return f"✗ {error_line(row)}"
    fields = answers_of(row)
    if fields is not None:
        return fields_line(fields[0], PREVIEW)
    return one_line(row.get("output_text"), PREVIEW) or called_tools(row) or ""


def error_line(row: Row) -> str:
    """The error's class without its module, its status and what it says."""
    status = f" {row['error_status']}" if row.get("error_status") else ""
    name = str(row["error_type"]).rpartition(".")[2]
    message = re.sub(rf"^((litellm\.)?{re.escape(name)}: )+", "", row.get("error_message") or "")
    return one_line(f"{name}{status}: {message}", PREVIEW).rstrip(": ")


def called_tools(row: Row) -> str:
    """The tools that the first answer calls, as ``name(arguments)``."""
    outputs = row.get("outputs")
    first = outputs[0] if isinstance(outputs, list) and outputs else None
    found = first.get("tool_calls") if isinstance(first, dict) else None
    return one_line(", ".join(tool_call(item) for item in found or []), PREVIEW)


def short_model(model: str | None) -> str:
    """A model without its provider."""
    return (model or "-").rpartition("/")[2]


def price(row: Row) -> str:
    """What the call cost, and where the answer came from when that was not the provider."""
    served = row.get("served_by")
    if served in (None, "provider"):
        return "-" if row.get("error_type") and row.get("cost") is None else money(row.get("cost"))
    return str(served)


_Cell = Callable[["Row"], "str | Text"]


def _columns() -> Sequence[tuple[Column, _Cell]]:
    return [
        (Column("time", style="dim"), lambda row: brief_moment(row["timestamp"])),
        (Column("id", style="cyan"), lambda row: short_id(row["uuid"])),
        (Column("run", optional=3), lambda row: one_line(row["run_name"], 24) or "-"),
        (Column("model"), lambda row: one_line(short_model(row["model"]), 28)),
        (Column("asked", flexible=True), asked),
        (Column("answered", flexible=True, optional=1), _coloured_answer),
        (Column("tokens", right=True, optional=2), lambda row: tokens(row["input_tokens"], row["output_tokens"])),
        (Column("cost", right=True), price),
        (Column("took", right=True, optional=4), lambda row: duration(row["duration_ms"])),
    ]


def _coloured_answer(row: Row) -> Text:
    return text(answered(row), "red" if row.get("error_type") else "")


def print_calls(rows: Sequence[Row]) -> None:
    """A table of calls."""
    columns = [pair for pair in _columns() if pair[0].title != "run" or any(row["run_name"] for row in rows)]
    print_rows(columns, rows)
