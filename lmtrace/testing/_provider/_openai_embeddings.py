"""OpenAI's embeddings, as numbers or as base64 of little-endian floats (what OpenAI's own client asks for)."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lmtrace.testing._provider import _openai
from lmtrace.testing._provider._answer import Answer
from lmtrace.testing._provider._dialect import Dialect, dumps
from lmtrace.testing._provider._request import Ask


def ask(body: Mapping[str, Any], path: Mapping[str, str]) -> Ask:
    """Read an embeddings request; inputs may be texts or token ids."""
    return Ask(model=body.get("model", "unknown"), inputs=inputs(body.get("input")))


def inputs(given: Any) -> tuple[str, ...]:
    """Each input as a text; a list of token ids is one input."""
    if isinstance(given, str):
        return (given,)
    if isinstance(given, list) and given and isinstance(given[0], int):
        return (str(given),)
    return tuple(text if isinstance(text, str) else str(text) for text in given or ())


def body(answer: Answer) -> Mapping[str, Any]:
    """The vectors in one body."""
    encoded = answer.request.json.get("encoding_format") == "base64"
    counts = answer.usage and {"prompt_tokens": answer.usage.input_tokens, "total_tokens": answer.usage.total_tokens}
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _base64(vector) if encoded else list(vector)}
            for index, vector in enumerate(answer.embeddings)
        ],
        "model": answer.model,
        **({"usage": counts} if counts else {}),
        **answer.extra,
    }


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")


def events(answer: Answer) -> Iterator[bytes]:
    """Embeddings are never streamed; the body in one piece."""
    yield dumps(body(answer))


DIALECT = Dialect(
    name="openai.embeddings",
    path=re.compile(r"/embeddings$"),
    ask=ask,
    body=body,
    events=events,
    error=_openai.error,
    error_event=_openai.error_event,
)
