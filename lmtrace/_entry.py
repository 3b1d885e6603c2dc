"""One finished call: what history keeps, what the store writes and what a replay is made from.

A `HistoryEntry` reads like the dictionary DSPy users know from ``lm.history[-1]`` (the same twelve keys) and holds more
for everything else. It knows the columns of the store (`columns`), and nothing about files, spans or providers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal

from lmtrace._data import LMOutput, LMRequest, LMResponse, LMTextPart, LMToolCallPart, LMUsage

ServedBy = Literal["provider", "cache", "replay"]
"""Where an answer came from."""

DSPY_KEYS: Final = (
    "prompt",
    "messages",
    "kwargs",
    "response",
    "outputs",
    "usage",
    "cost",
    "timestamp",
    "uuid",
    "model",
    "response_model",
    "model_type",
)
"""The keys of DSPy's history entries, in DSPy's order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallError:
    """Why a call failed, free of credentials."""

    type: str
    """Qualified class name of the exception."""
    message: str | None = None
    status: int | None = None
    """HTTP status, where there was one."""
    code: str | None = None
    """`LMError.code` of the error that `lmtrace.LM` raises."""
    retry_after: float | None = None
    """Seconds the provider asked to wait, where it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """The named stretch of work a call belongs to."""

    run_id: str
    name: str
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HistoryEntry(Mapping[str, Any]):
    """One finished LM call, read as a mapping of DSPy's twelve keys or by attribute."""

    uuid: str
    """A uuid7, so ids sort by time; `lmtrace.call.id` on the span."""

    timestamp_ns: int
    """Start of the call in nanoseconds since the epoch, UTC."""

    duration_ms: float
    """From a monotonic clock."""

    time_to_first_chunk_ms: float | None = None
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    run: RunInfo | None = None
    scope: str | None = None
    """Module path of the caller, as ``Program.predictor``."""

    request: LMRequest
    response: LMResponse | None = None
    """None when the call failed before anything arrived; partial for broken and abandoned streams."""

    error: CallError | None = None
    outputs: list[Any]
    """DSPy's form: a string for each candidate, or a dictionary when there is more than text."""

    served_by: ServedBy = "provider"
    request_key: str | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    """What the framework says of the call: with DSPy `adapter` and `signature`."""
    attempts: int = 1
    streamed: bool = False
    thread: str = ""
    path: str | None = None
    """Which task asked, as fork ordinals, while recording or replaying: ``0.3.12``."""

    def __getitem__(self, key: str) -> Any:
        if key not in DSPY_KEYS:
            raise KeyError(f"{key!r}; a history entry has {', '.join(DSPY_KEYS)} (more as attributes)")
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(DSPY_KEYS)

    def __len__(self) -> int:
        return len(DSPY_KEYS)

    @property
    def prompt(self) -> str | None:
        return self.request.prompt

    @property
    def messages(self) -> Any:
        return self.request.messages

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """The effective parameters, credentials left out."""
        return self.request.kwargs

    @property
    def model(self) -> str:
        return self.request.model

    @property
    def model_type(self) -> str:
        return self.request.model_type

    @property
    def response_model(self) -> str | None:
        return self.response.model if self.response is not None else None

    @property
    def timestamp(self) -> str:
        """Start of the call, ISO 8601 with microseconds, UTC."""
        return isoformat(self.timestamp_ns)

    @property
    def usage(self) -> dict[str, Any]:
        """The provider's own usage object when there is one (DSPy's form), else the normalised counts."""
        usage = self.normalized_usage
        return {} if usage is None else dict(usage.details) if usage.details else usage.to_wire()

    @property
    def normalized_usage(self) -> LMUsage | None:
        return self.response.usage if self.response is not None else None

    @property
    def cost(self) -> float | None:
        """US dollars, or None when no price is known; a cache hit keeps what the answer once cost."""
        return self.response.cost if self.response is not None else None

    @property
    def cost_source(self) -> str | None:
        if self.response is None or self.response.metadata is None:
            return None
        return self.response.metadata.get("cost_source")

    @property
    def cache_hit(self) -> bool:
        return self.served_by == "cache"

    @property
    def billed_cost(self) -> float | None:
        """What this very call cost: zero when it came from a cache or a replay."""
        return self.cost if self.served_by == "provider" else 0.0

    @property
    def finish_reasons(self) -> list[str] | None:
        """One for each candidate; ``"error"`` stands for a missing one, as the GenAI conventions ask."""
        if self.response is None or self.request.model_type == "embedding":
            return None
        return [output.finish_reason or "error" for output in self.response.outputs]

    def __repr__(self) -> str:
        state = "error" if self.error is not None else self.served_by
        return f"<HistoryEntry {self.uuid} {self.model} {state} {self.duration_ms:.1f} ms>"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def isoformat(timestamp_ns: int) -> str:
    """The one textual form of a time in records: UTC, microseconds, ``Z``."""
    seconds, nanoseconds = divmod(timestamp_ns, 1_000_000_000)
    return f"{_second(seconds)}.{nanoseconds // 1000:06d}Z"


def dspy_outputs(outputs: Sequence[LMOutput]) -> list[str | dict[str, Any]]:
    """Candidates as `dspy.LM` returns them: texts, or dictionaries for all as soon as one has more than text."""
    if len(outputs) == 1 and (text := _plain_text(outputs[0])) is not None:
        return [text]
    rich = [_rich_output(output) for output in outputs]
    if all(len(fields) == 1 for fields in rich):
        return [fields["text"] if fields["text"] is not None else "" for fields in rich]
    return [*rich]


def _plain_text(output: LMOutput) -> str | None:
    """The text of a candidate that is one text and nothing else; the quick way for nearly all of them."""
    parts = output.parts
    if len(parts) == 1 and type(part := parts[0]) is LMTextPart and output.logprobs is None:
        return part.text
    return None


def _rich_output(output: LMOutput) -> dict[str, Any]:
    fields: dict[str, Any] = {"text": output.text}
    if (reasoning := output.reasoning) is not None:
        fields["reasoning_content"] = reasoning
    if output.logprobs is not None:
        fields["logprobs"] = output.logprobs
    calls = [_tool_call(part) for part in output.of_type("tool_call") if isinstance(part, LMToolCallPart)]
    if calls:
        fields["tool_calls"] = calls
    citations = [part.to_wire() for part in output.of_type("citation")]
    if citations:
        fields["citations"] = citations
    return fields


def _tool_call(part: LMToolCallPart) -> dict[str, Any]:
    function = {"name": part.name, "arguments": part.arguments}
    return {"id": part.id, "type": "function", "function": function}
