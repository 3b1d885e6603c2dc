"""Recorded calls as training data: OpenAI's JSON lines for fine-tuning chat models, which other trainers read as well.

A line is one conversation, as DSPy's `BootstrapFinetune` makes them: the messages as they were sent, and the answer as the
assistant's last message; tools where the call had some. Calls that say nothing worth learning make no line: failed ones,
answers that were cut off, what is no chat, and what an earlier line says already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson

CONDITION: Final = (
    "error_type IS NULL AND operation <> 'embeddings' AND NOT coalesce(list_contains(finish_reasons, 'length'), FALSE)"
)
"""What a call must fulfil."""


def finetune_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """The lines for rows of `calls`, each once, without line ends."""
    seen: set[bytes] = set()
    for row in rows:
        found = conversation(row)
        if found is None:
            continue
        line = orjson.dumps(found)
        digest = hashlib.sha256(line).digest()
        if digest not in seen:
            seen.add(digest)
            yield line


def conversation(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """One call as a conversation; None when its messages or its answer were not recorded."""
    messages, outputs = row.get("messages"), row.get("outputs")
    if not messages and isinstance(row.get("prompt"), str):
        messages = [{"role": "user", "content": row["prompt"]}]
    answer = _answer(outputs[0]) if isinstance(outputs, list) and outputs else None
    if not isinstance(messages, list) or not messages or answer is None:
        return None
    found: dict[str, Any] = {"messages": [*map(_ordered, messages), answer]}
    if row.get("tools"):
        found["tools"] = row["tools"]
    return found


def _ordered(message: Any) -> Any:
    """Role and content first, as people write them."""
    if not isinstance(message, Mapping):
        return message
    return {name: message[name] for name in ("role", "content") if name in message} | dict(message)


def _answer(output: Any) -> dict[str, Any] | None:
    """The first candidate as the assistant's message; None when there is nothing in it."""
    given = output if isinstance(output, Mapping) else {"text": output}
    message: dict[str, Any] = {"role": "assistant"}
    if isinstance(given.get("text"), str):
        message["content"] = given["text"]
    if given.get("tool_calls"):
        message["tool_calls"] = [_tool_call(call) for call in given["tool_calls"]]
    return message if len(message) > 1 else None


def _tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    return {name: call[name] for name in ("id", "type", "function") if name in call}
