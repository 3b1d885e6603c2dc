"""Traces as trees: spans and calls by their parents, with time, tokens and money summed up from below."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmtrace import _semconv as names
from lmtrace._cli._print import console, text
from lmtrace._cli._rows import answered, asked, price, short_model
from lmtrace._cli._text import duration, one_line, plural, short_id, tokens, total_money

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from lmtrace._cli._store import Row


@dataclass(slots=True)
class Node:
    """A span or call with what happened inside it."""

    row: Row
    is_call: bool
    children: list[Node] = field(default_factory=list)

    def calls(self) -> Iterable[Row]:
        """The calls at and below this node."""
        if self.is_call:
            yield self.row
        for child in self.children:
            yield from child.calls()


def grow(calls: Iterable[Row], spans: Iterable[Row]) -> list[Node]:
    """The roots: nodes whose parent was not recorded here, in order of time; so are children."""
    nodes = [Node(row, is_call=False) for row in spans] + [Node(row, is_call=True) for row in calls]
    nodes.sort(key=lambda node: node.row["timestamp"])
    by_span = {(node.row["trace_id"], node.row["span_id"]): node for node in nodes if node.row["span_id"]}
    roots: list[Node] = []
    for node in nodes:
        parent = by_span.get((node.row["trace_id"], node.row["parent_span_id"]))
        (roots if parent is None or parent is node else parent.children).append(node)
    return roots


def print_tree(calls: list[Row], spans: list[Row]) -> None:
    """Print the trees of all traces in the rows, and one line that sums them up."""
    from rich.tree import Tree

    printer = console()
    trace: object = ()
    for root in grow(calls, spans):
        if root.row["trace_id"] != trace:
            trace = root.row["trace_id"]
            if trace:
                printer.print(text(f"trace {trace}", "dim"))
        tree = Tree(_label(root), guide_style="dim")
        _branch(tree, root)
        printer.print(tree, no_wrap=True, overflow="ellipsis")
    printer.print(text(summary(calls), "bold"))


def _branch(tree: Tree, node: Node) -> None:
    for child in node.children:
        _branch(tree.add(_label(child)), child)


def _label(node: Node) -> Text:
    return _call_label(node.row) if node.is_call else _span_label(node)


def _call_label(row: Row) -> Text:
    line = text(f"{row['operation']} {short_model(row['model'])}", "cyan")
    facts = [duration(row["duration_ms"]), tokens(row["input_tokens"], row["output_tokens"]), price(row)]
    if row["rollout_id"] is not None:
        facts.append(f"rollout {row['rollout_id']}")
    line.append_text(text(f"  {' · '.join(facts)}  ", "dim"))
    line.append_text(text(short_id(row["uuid"]), "cyan"))
    line.append_text(text(f"  {one_line(asked(row), 60)} → "))
    line.append_text(text(one_line(answered(row), 60), "red" if row["error_type"] else ""))
    return line


def _span_label(node: Node) -> Text:
    row, below = node.row, list(node.calls())
    line = text(one_line(row["name"], 100), "bold red" if row["error_type"] else "bold")
    score = (row["attributes"] or {}).get(names.EVALUATION_SCORE)
    facts = [*([] if score is None else [f"score {score:g}"]), duration(row["duration_ms"])]
    if below:
        facts += [plural(len(below), "call"), money_of(below)]
    if row["error_type"]:
        facts.append(f"✗ {row['error_type']}")
    line.append_text(text(f"  {' · '.join(facts)}", "dim"))
    return line


def money_of(calls: list[Row]) -> str:
    """What the calls cost together."""
    known = [row["billed_cost"] for row in calls if row["billed_cost"] is not None]
    unknown = sum(row["billed_cost"] is None and row["error_type"] is None for row in calls)
    return total_money(sum(known), unknown)


def summary(calls: list[Row]) -> str:
    """Calls, errors, tokens and cost on one line."""
    errors = sum(row["error_type"] is not None for row in calls)
    parts = [plural(len(calls), "call")] + ([plural(errors, "error")] if errors else [])
    given, generated = (
        sum(found)
        if (found := [row[name] for row in calls if row[name] is not None and row["served_by"] == "provider"])
        else None
        for name in ("input_tokens", "output_tokens")
    )
    asked = [] if given is None and generated is None else [f"{tokens(given, generated)} tokens"]
    return " · ".join([*parts, *asked, money_of(calls)])
