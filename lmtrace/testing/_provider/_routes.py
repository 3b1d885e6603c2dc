"""Which dialect a request is in, and the few requests that ask for no answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from lmtrace.testing._provider import (
    _anthropic,
    _gemini,
    _ollama,
    _openai_chat,
    _openai_embeddings,
    _openai_responses,
    _openai_text,
)
from lmtrace.testing._provider._answer import CREATED
from lmtrace.testing._provider._dialect import Dialect, dumps
from lmtrace.testing._provider._openai import error
from lmtrace.testing._provider._reply import Failure
from lmtrace.testing._provider._request import ReceivedRequest
from lmtrace.testing._provider._server import Received, Sent

DIALECTS: tuple[Dialect, ...] = (
    _openai_chat.DIALECT,
    _openai_text.DIALECT,
    _openai_embeddings.DIALECT,
    _openai_responses.DIALECT,
    _anthropic.DIALECT,
    _gemini.DIALECT,
    _ollama.CHAT,
    _ollama.GENERATE,
    _ollama.EMBED,
)

MODEL = "loopback"
"""The one model that lists of models name; every other name is answered too."""


def read(received: Received) -> tuple[ReceivedRequest, Dialect | None]:
    """The request with its question read out, and its dialect when it asks for an answer in one."""
    parts = urlsplit(received.target)
    content = _json(received.body)
    fields: dict[str, Any] = {
        "method": received.method,
        "path": parts.path,
        "query": dict(parse_qsl(parts.query)),
        "headers": received.headers,
        "body": received.body,
        "json": content,
    }
    for dialect in DIALECTS if received.method == "POST" and isinstance(content, Mapping) else ():
        if found := dialect.path.search(parts.path):
            ask = dialect.ask(content, found.groupdict())
            return ReceivedRequest(**fields, dialect=dialect.name, ask=ask), dialect
    return ReceivedRequest(**fields), None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return None


def unanswerable(request: ReceivedRequest) -> Sent:
    """What a request gets that asks for no answer: a list, or an error that says what is wrong with it."""
    found = _listing(request.path)
    if found is not None:
        return Sent(body=dumps(found))
    known = request.method == "POST" and request.json is None
    status, message = (400, None) if known else (404, f"The loopback provider serves nothing at {request.path}.")
    return Sent(status=status, body=dumps(error(Failure(status=status, message=message))))


def _listing(path: str) -> Mapping[str, Any] | None:
    """The answer to a request for the list of models or the description of one, or None for an unknown path."""
    if path.endswith("/api/show"):
        return _OLLAMA_MODEL
    if path.endswith("/api/tags"):
        return {"models": [{"name": f"{MODEL}:latest", "model": f"{MODEL}:latest", "details": {}}]}
    if path.endswith("/v1beta/models"):
        return {"models": [{"name": f"models/{MODEL}", "supportedGenerationMethods": ["generateContent"]}]}
    if path.endswith("/models"):
        model = {"id": MODEL, "object": "model", "created": CREATED, "owned_by": "lmtrace"}
        return {"object": "list", "data": [model]}
    return None


_OLLAMA_MODEL: Mapping[str, Any] = {
    "template": "{{ .System }}{{ .Tools }}{{ .Prompt }}",
    "details": {"family": "llama", "format": "gguf", "parameter_size": "8B"},
    "model_info": {"general.architecture": "llama", "llama.context_length": 8192},
    "capabilities": ["completion", "tools", "thinking"],
}
"""What Ollama tells about a model; LiteLLM looks for tools in the template and for the length of the context."""
