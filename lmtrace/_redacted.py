"""A copy of an entry that may leave the process: for spans and events that carry content.

The store's row is redacted in its serialised form; telemetry needs the entry itself. So the parts with content are
serialised (messages were when the call began), redacted by the very same code, and read back. This runs only when content
is asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import orjson

from lmtrace import _wire
from lmtrace._data import LMOutput, LMRequest, LMResponse
from lmtrace._entry import HistoryEntry, dspy_outputs
from lmtrace._redactor import Redactor
from lmtrace._rows import Asked


def redacted_entry(
    entry: HistoryEntry, asked: Asked | None, redactor: Redactor, secrets: Mapping[str, Any]
) -> HistoryEntry:
    """`entry` with every text in its request and response redacted."""
    clean = _Cleaner(redactor, secrets)
    messages = _wire.dumps(entry.request.messages) if asked is None else asked.messages
    request, response = clean.request(entry.request, messages), clean.response(entry.response)
    outputs = [] if response is None else dspy_outputs(response.outputs)
    return dataclasses.replace(entry, request=request, response=response, outputs=outputs)


def entry_as_asked(entry: HistoryEntry, asked: Asked) -> HistoryEntry:
    """`entry` with the messages and tools as they were when the call began, for one that holds no secrets."""
    request = dataclasses.replace(entry.request, messages=_wire.decode(orjson.loads(asked.messages)))
    if asked.shape.tools is not None:
        request = dataclasses.replace(request, kwargs={**request.kwargs, "tools": orjson.loads(asked.shape.tools)})
    return dataclasses.replace(entry, request=request)


def stripped_entry(entry: HistoryEntry) -> HistoryEntry:
    """`entry` without any text that redaction should have seen, for when that failed."""
    request = dataclasses.replace(entry.request, messages=None, prompt=None, kwargs={})
    response = entry.response
    if response is not None:
        response = LMResponse(outputs=(LMOutput(),), usage=response.usage, cost=response.cost)
    error = None if entry.error is None else dataclasses.replace(entry.error, message=None)
    return dataclasses.replace(entry, request=request, response=response, outputs=[], error=error)


class _Cleaner:
    """Redacts parts of an entry. Names of models and ids are no content: the user's redactors do not see them."""

    def __init__(self, redactor: Redactor, secrets: Mapping[str, Any]) -> None:
        self._redactor = redactor
        self._secrets = secrets

    def content(self, text: bytes) -> Any:
        """What a JSON text says, without secrets and what the user wants removed."""
        return _wire.decode(self._redactor.data(text, self._secrets))

    def names(self, *names: Any) -> list[Any]:
        """Names without secrets."""
        line = self._redactor.line(b'{"names":' + _wire.dumps(names) + b"}", self._secrets)
        found: list[Any] = _wire.decode(orjson.loads(line)["names"])
        return found

    def request(self, request: LMRequest, messages: bytes) -> LMRequest:
        fields = _wire.dumps({"kwargs": dict(request.kwargs), "prompt": request.prompt})
        (model,) = self.names(request.model)
        clean = self.content(fields[:-1] + b',"messages":' + messages + b"}")
        return dataclasses.replace(request, model=model, **clean)

    def response(self, response: LMResponse | None) -> LMResponse | None:
        if response is None:
            return None
        model, response_id = self.names(response.model, response.response_id)
        clean = LMResponse.from_wire(self.content(_wire.dumps(response.to_wire())))
        return dataclasses.replace(clean, model=model, response_id=response_id)
