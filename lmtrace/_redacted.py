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
from lmtrace._data import LMRequest, LMResponse
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


class _Cleaner:
    def __init__(self, redactor: Redactor, secrets: Mapping[str, Any]) -> None:
        self._redactor = redactor
        self._secrets = secrets

    def value(self, value: Any) -> Any:
        return self.json(_wire.dumps(value))

    def json(self, text: bytes) -> Any:
        return _wire.decode(self._redactor.data(text, self._secrets))

    def request(self, request: LMRequest, messages: bytes) -> LMRequest:
        kwargs = self.value(dict(request.kwargs))
        prompt = None if request.prompt is None else self.value(request.prompt)
        return dataclasses.replace(request, messages=self.json(messages), kwargs=kwargs, prompt=prompt)

    def response(self, response: LMResponse | None) -> LMResponse | None:
        return None if response is None else LMResponse.from_wire(self.value(response.to_wire()))
