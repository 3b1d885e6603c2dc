"""A whole call on the terminal: who and when, the conversation, the answer, what it took."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import TYPE_CHECKING, Any

from lmtrace._cli._print import console, text
from lmtrace._cli._text import duration, message_text, money, one_line, plural, tool_call

if TYPE_CHECKING:
    from rich.console import Console

    from lmtrace._cli._store import Row

_ROLE_STYLES = {"system": "magenta", "developer": "magenta", "user": "blue", "assistant": "green", "tool": "yellow"}


def print_call(row: Row, *, raw: bool = False) -> None:
    """Print everything a person wants to know of the call; with `raw` the stored JSON as well."""
    printer = console()
    _print_head(printer, row)
    for role, said in conversation(row):
        _print_block(printer, role, said)
    for index, said in enumerate(answers(row)):
        _print_block(printer, "answer" if index == 0 else f"answer {index + 1}", said)
    if row["error_type"]:
        status = f" {row['error_status']}" if row["error_status"] else ""
        _print_block(printer, "error", f"{row['error_type']}{status}: {row['error_message'] or 'no message'}", "red")
    if raw:
        for name in ("messages", "kwargs", "tools", "response", "outputs", "usage"):
            _print_block(printer, name, _indented(row[name]))
    facts: list[tuple[str, str | None]] = [("usage", usage(row)), ("cost", cost(row))]
    if any(value for _, value in facts):
        printer.print()
        _print_facts(printer, facts)


def _print_head(printer: Console, row: Row) -> None:
    answered_by = row["response_model"] if row["response_model"] not in (None, row["model"]) else None
    title = f"{row['operation'] or 'call'} {row['model']}" + (f" → {answered_by}" if answered_by else "")
    printer.print(text(title, "bold"))
    first = row["time_to_first_chunk_ms"]
    took = duration(row["duration_ms"]) + (f", first chunk after {duration(first)}" if first is not None else "")
    when = row["timestamp"].astimezone()
    _print_facts(
        printer,
        [
            ("id", row["uuid"]),
            (
                "when",
                f"{when:%Y-%m-%d %H:%M:%S.%f}"[:-3] + f"{when:%z}" + f" ({row['timestamp'].astimezone(UTC):%H:%M:%SZ})",
            ),
            ("took", took),
            ("served by", served(row)),
            ("run", f"{row['run_name']} ({row['run_id']})" if row["run_id"] else None),
            ("tags", ", ".join(f"{name}={value}" for name, value in (row["tags"] or {}).items())),
            ("scope", row["scope"]),
            ("trace", f"{row['trace_id']}, span {row['span_id']}" if row["trace_id"] else None),
            ("rollout", row["rollout_id"]),
            ("params", parameters(row)),
            ("tools", ", ".join(tool_names(row["tools"]))),
            ("finished", ", ".join(row["finish_reasons"] or [])),
        ],
    )


def _print_facts(printer: Console, facts: list[tuple[str, str | None]]) -> None:
    for name, value in facts:
        if value:
            line = text(f"{name:<10}", "dim")
            line.append_text(text(value))
            printer.print(line)


def _print_block(printer: Console, title: str, said: str, style: str = "") -> None:
    printer.print()
    printer.print(text(f"── {title} ──", f"bold {style or _ROLE_STYLES.get(title.split(maxsplit=1)[0], 'green')}"))
    printer.print(text(said or "(empty)", style if said else "dim"), soft_wrap=True)


def served(row: Row) -> str:
    """Who answered, after how many attempts."""
    attempts = row["attempts"] or 1
    notes = [plural(attempts, "attempt")] if attempts > 1 else []
    notes += ["streamed"] if row["streamed"] else []
    return ", ".join([str(row["served_by"] or "provider"), *notes])


def parameters(row: Row) -> str:
    """The effective parameters on one line; tools and messages have their own place."""
    kwargs = row["kwargs"] if isinstance(row["kwargs"], dict) else {}
    return ", ".join(
        f"{name}={one_line(value if isinstance(value, str) else _compact(value), 80)}"
        for name, value in kwargs.items()
        if name not in {"tools", "rollout_id", "messages"} and value is not None
    )


def tool_names(tools: Any) -> list[str]:
    """The names of the tools that were offered."""
    if not isinstance(tools, list):
        return []
    found = [item.get("function", item) if isinstance(item, dict) else {} for item in tools]
    return [str(item.get("name", item.get("type", "tool"))) for item in found if isinstance(item, dict)]


def conversation(row: Row) -> Iterator[tuple[str, str]]:
    """Each message of the request: its role, and its text with the tool calls it makes."""
    messages = row["messages"]
    if messages is None:
        if row["prompt"]:
            yield "prompt", row["prompt"]
        return
    for item in messages if isinstance(messages, list) else [messages]:
        if not isinstance(item, dict):
            yield "input", str(item)
            continue
        role = str(item.get("role") or item.get("type") or "input")
        name = item.get("name") or item.get("tool_call_id")
        said = message_text(item.get("content", item.get("output", item.get("arguments"))))
        lines = [said, *(f"→ {tool_call(call)}" for call in item.get("tool_calls") or [])]
        yield f"{role} {name}" if name else role, "\n".join(line for line in lines if line)


def answers(row: Row) -> Iterator[str]:
    """Each candidate: reasoning, text, tool calls, citations."""
    for output in row["outputs"] if isinstance(row["outputs"], list) else []:
        if not isinstance(output, dict):
            yield message_text(output)
            continue
        lines = [f"(reasoning) {output['reasoning_content']}"] if output.get("reasoning_content") else []
        lines += [message_text(output.get("text"))]
        lines += [f"→ {tool_call(call)}" for call in output.get("tool_calls") or []]
        lines += [f"[{_compact(citation)}]" for citation in output.get("citations") or []]
        yield "\n".join(line for line in lines if line)


def usage(row: Row) -> str:
    """Token counts in words; empty when the provider gave none."""
    parts = [
        f"{row[name]:,} {label}"
        for name, label in (
            ("input_tokens", "in"),
            ("cache_read_tokens", "read from cache"),
            ("cache_write_tokens", "written to cache"),
            ("output_tokens", "out"),
            ("reasoning_tokens", "reasoning"),
        )
        if row[name]
    ]
    return " · ".join(parts) + " tokens" if parts else ""


def cost(row: Row) -> str:
    """What it cost, and how that is known; what was billed when that differs."""
    if row["cost"] is None:
        return "" if row["error_type"] else f"unknown: no price for {row['response_model'] or row['model']}"
    source = f" ({row['cost_source']})" if row["cost_source"] else ""
    billed = row["billed_cost"]
    return money(row["cost"]) + source + (f", billed {money(billed)}" if billed not in (None, row["cost"]) else "")


def _compact(value: Any) -> str:
    import orjson

    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _indented(value: Any) -> str:
    import orjson

    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_INDENT_2).decode()
