"""What a test can make the provider do: answer (`Reply`) or not (`Failure`), in terms of no particular provider."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lmtrace._data import LMCitationPart, LMToolCallPart, LMUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer, which every dialect can render, as one body or as a stream.

    What is not given is filled in: token counts from the lengths of the texts, ids from a counter, the finish reason
    from the content. A dialect that has no place for a field leaves it out.
    """

    text: str | None = None
    """The visible answer; None for an answer that only calls tools or refuses."""

    reasoning: str | None = None
    """What the model thought first."""

    tool_calls: Sequence[LMToolCallPart | Mapping[str, Any]] = ()
    """``{"name": …, "arguments": …}``; arguments are a mapping, or the JSON text to send as it is."""

    citations: Sequence[LMCitationPart | Mapping[str, Any]] = ()
    """``{"url": …, "title": …, "text": …}``."""

    refusal: str | None = None

    finish_reason: str | None = None
    """``stop``, ``length``, ``tool_calls`` or ``content_filter``, translated to the dialect's word; any other goes as is."""

    usage: LMUsage | Mapping[str, int] | None = None
    """With cached tokens inside the input and reasoning inside the output, as in `lmtrace`; dialects convert."""

    reports_usage: bool = True
    """False for a server that never says how many tokens it used."""

    logprobs: Sequence[tuple[str, float]] | None = None
    """Tokens of the text and their log probabilities; made up from the text when the request asks for them."""

    alternatives: Sequence[Reply | str] = ()
    """The second and further choices, when the request asks for several; the reply itself stands in for missing ones."""

    embeddings: Sequence[Sequence[float]] | None = None
    """One vector per input; computed from the inputs when not given."""

    model: str | None = None
    """The model that says it answered; the one asked for when not given."""

    id: str | None = None

    latency: float = 0.0
    """Seconds until the first byte."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Further response headers."""

    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further top-level fields of the body, such as ``system_fingerprint``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One answer that does not come, or not whole.

    ``error`` is an HTTP status with the dialect's error body, ``disconnect`` closes the connection, ``malformed`` sends
    half a JSON text as if all were well, and ``hang`` waits for `until` and answers then.
    """

    kind: Literal["error", "disconnect", "malformed", "hang"] = "error"

    status: int = 500

    message: str | None = None
    """What the provider says; by default what this kind of provider says for this status and code."""

    code: str | None = None
    """``context_length_exceeded`` and ``content_policy_violation`` select each provider's own words for them."""

    retry_after: float | None = None
    """Seconds, for the header of that name."""

    after: int | None = None
    """How many events of a stream are sent before it fails; None fails before the first byte."""

    reply: Reply | None = None
    """What the stream would have said, or what a hung request is answered with in the end."""

    until: threading.Event | None = None
    """What ends a hang; closing the provider sets it."""

    headers: Mapping[str, str] = field(default_factory=dict)
