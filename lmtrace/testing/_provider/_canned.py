"""Answers that nobody scripted: plausible, and the same for the same request on every machine.

They follow the request where a program would stumble otherwise: an answer is JSON of the wanted schema when JSON is
wanted, carries the field markers that DSPy's adapters ask for, and stops at the token limit.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from lmtrace.testing._provider._reply import Reply
from lmtrace.testing._provider._request import Ask, ReceivedRequest

FACTS = {
    "capital of france": "Paris.",
    "capital of germany": "Berlin.",
    "capital of japan": "Tokyo.",
    "say this is a test": "This is a test!",
    "meaning of life": "42.",
    "speed of light": "299,792,458 metres per second.",
    "who wrote hamlet": "William Shakespeare.",
    "hello": "Hello! How can I help you?",
}
"""What the provider knows; anything else is repeated back."""

CHARACTERS_PER_TOKEN = 4
DIMENSIONS = 8

_MARKER = re.compile(r"\[\[ ## (\w+) ## \]\]")
_NAME = re.compile(r"`(\w+)`")


def count_tokens(text: str | None) -> int:
    """How many tokens a text counts for: one for every four characters begun."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN) if text else 0


def canned_reply(request: ReceivedRequest) -> Reply:
    """The answer to a request that no test scripted, cut at the request's token limit."""
    if request.ask.tool is not None:
        name, schema = request.ask.tool
        return Reply(tool_calls=[{"name": name, "arguments": _instance(schema, fact(request.prompt), schema)}])
    text = canned_text(request.prompt, request.ask)
    limit = request.ask.max_tokens
    if limit is None or count_tokens(text) <= limit:
        return Reply(text=text)
    return Reply(text=text[: limit * CHARACTERS_PER_TOKEN], finish_reason="length")


def fact(prompt: str) -> str:
    """A fact when the prompt asks for one, else the prompt repeated."""
    lowered = prompt.lower()
    known = (answer for question, answer in FACTS.items() if question in lowered)
    return next(known, f"You said: {prompt[:200]}")


def canned_text(prompt: str, ask: Ask) -> str:
    """What `fact` says, in the form the request wants."""
    text = fact(prompt)
    if ask.schema is not None:
        return json.dumps(_instance(ask.schema or _named_fields(prompt), text, ask.schema))
    _, asked, fields = prompt.rpartition("Respond with the corresponding output fields")
    if asked:
        return "\n\n".join(
            f"[[ ## {name} ## ]]" + ("" if name == "completed" else f"\n{text}") for name in _MARKER.findall(fields)
        )
    return text


def _named_fields(prompt: str) -> Mapping[str, Any]:
    """A schema for "any JSON object": the fields that DSPy's JSON adapter names, or one called ``answer``."""
    _, _, fields = prompt.rpartition("Respond with a JSON object")
    names = _NAME.findall(fields) or ["answer"]
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}}


def _instance(schema: Mapping[str, Any], text: str, root: Mapping[str, Any]) -> Any:
    """The simplest value a JSON Schema allows, with `text` where a string may stand."""
    if "$ref" in schema:
        return _instance(_resolve(schema["$ref"], root), text, root)
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    if schema.get("enum"):
        return schema["enum"][0]
    for keyword in ("anyOf", "oneOf", "allOf"):
        if schema.get(keyword):
            return _instance(schema[keyword][0], text, root)
    kinds = schema.get("type", "object" if "properties" in schema else "string")
    kind = (kinds if isinstance(kinds, str) else kinds[0]).lower()  # Gemini writes them in capitals
    if kind == "object":
        return {name: _instance(part, text, root) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [_instance(schema.get("items", {}), text, root)] * schema.get("minItems", 1)
    plain = {"integer": schema.get("minimum", 1), "number": schema.get("minimum", 1.0), "boolean": True, "null": None}
    return plain.get(kind, text)


def _resolve(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    node: Any = root
    for name in reference.removeprefix("#/").split("/"):
        node = node[name]
    resolved: Mapping[str, Any] = node
    return resolved


def canned_vector(text: str, dimensions: int | None) -> list[float]:
    """A vector of length one that depends on the text alone; equal texts, equal vectors."""
    size = dimensions or DIMENSIONS
    noise = hashlib.shake_128(text.encode("utf-8", "surrogatepass")).digest(size)
    raw = [byte - 127.5 for byte in noise]
    length = math.hypot(*raw)
    return [round(value / length, 6) for value in raw]


def canned_logprobs(text: str) -> list[tuple[str, float]]:
    """The words of a text as tokens, the longer the less probable."""
    return [(token, -len(token.strip()) / 10) for token in re.findall(r"\s*\S+|\s+$", text)]
