"""A copy of an entry that may leave the process: for spans and events that carry content.

The store's row is redacted in its serialised form; telemetry needs the entry itself. So the parts with content are
serialised (messages were when the call began), redacted by the very same code, and read back. This runs only when content
is asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

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


def stripped_entry(entry: HistoryEntry) -> HistoryEntry:
    """`entry` without any text that redaction should have seen, for when that failed."""
    request = dataclasses.replace(entry.request, messages=None, prompt=None, kwargs={})
    response = entry.response
    if response is not None:
        response = LMResponse(outputs=(LMOutput(),), usage=response.usage, cost=response.cost)
    error = None if entry.error is None else dataclasses.replace(entry.error, message=None)
    return dataclasses.replace(entry, request=request, response=response, outputs=[], error=error)


class _Cleaner:
    def __init__(self, redactor: Redactor, secrets: Mapping[str, Any]) -> None:
        self._redactor = redactor
        self._secrets = secrets

    def value(self, value: Any) -> Any:
        return self.json(_wire.dumps(value))

    def json(self, text: bytes) -> Any:
        return _wire.decode(self._redactor.data(text, self._secrets))

    def request(self, request: LMRequest, messages: bytes) -> LMRequest:
        fields = {"kwargs": dict(request.kwargs), "prompt": request.prompt, "model": request.model}
        return dataclasses.replace(request, messages=self.json(messages), **self.value(fields))

    def response(self, response: LMResponse | None) -> LMResponse | None:
        return None if response is None else LMResponse.from_wire(self.value(response.to_wire()))
