"""Metrics of finished calls, recorded away from the caller.

One SDK measurement costs about 7 µs and a call makes four or more, so `Metrics.record` only queues a small tuple
(`lmtrace._deferred`). The tuples become measurements when a reader collects: an observable instrument that never reports
anything has a callback, which empties the queue. The SDK runs callbacks before it reads the other instruments, so the
measurements are part of the same collection.

The queue is one for the process, because a meter keeps the first callback it gets for a name and `configure` makes a new
`Metrics` each time; each tuple knows whose it is.

Ids, messages and free parameters are never metric attributes: each value of one makes a time series.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lmtrace import _semconv as names
from lmtrace import _step_metrics
from lmtrace._data import OPERATIONS, LMUsage
from lmtrace._deferred import Deferred
from lmtrace._entry import HistoryEntry
from lmtrace._providers import identity

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, Observation

_NOTHING: Final[Mapping[str, Any]] = {}
_logger = logging.getLogger(__name__)

_NEW: Final = (
    names.INFERENCE_DURATION,
    names.INFERENCE_FIRST_CHUNK,
    names.INFERENCE_INPUT_USAGE,
    names.INFERENCE_OUTPUT_USAGE,
    names.INFERENCE_READ_USAGE,
    names.INFERENCE_WRITE_USAGE,
    names.INFERENCE_REASONING_USAGE,
    names.INFERENCE_INPUT_TOKENS,
    names.INFERENCE_OUTPUT_TOKENS,
    names.OPERATION_DURATION,
    names.WORKFLOW_DURATION,
    names.AGENT_DURATION,
    names.TOOL_DURATION,
    names.CALLS,
)
_OLD: Final = (names.OPERATION_FIRST_CHUNK, names.TOKEN_USAGE)
_MODES: Final[dict[str, tuple[str, ...]]] = {"new": _NEW, "both": _NEW + _OLD, "off": ()}


class _Call(NamedTuple):
    """What the metrics of one call need; it keeps no message alive."""

    metrics: Metrics
    model_type: str
    model: str
    provider: str | None
    server_address: str | None
    server_port: int | None
    response_model: str | None
    error_type: str | None
    duration_ms: float
    first_chunk_ms: float | None
    usage: LMUsage | None
    served_by: str


class Metrics:
    """The GenAI client metrics of one meter.

    Args:
        meter: Where the instruments are created.
        mode: ``new`` for the current names, ``both`` for the older ones too, ``off`` for none.
    """

    def __init__(self, meter: Meter, mode: str = "new") -> None:
        self._enabled = mode != "off"
        self._older = mode == "both"
        self._record: dict[str, Callable[..., None]] = {name: _instrument(meter, name) for name in _MODES[mode]}
        if self._enabled:
            meter.create_observable_gauge(names.COLLECT_HOOK, [_before_collection])

    def record(self, entry: HistoryEntry) -> None:
        """Note a finished call; about a microsecond, whatever becomes of it later."""
        if not self._enabled:
            return
        request, response, error = entry.request, entry.response, entry.error
        call = (
            self,
            request.model_type,
            request.model,
            request.provider,
            request.server_address,
            request.server_port,
            response.model if response is not None else None,
            error.type if error is not None else None,
            entry.duration_ms,
            entry.time_to_first_chunk_ms,
            response.usage if response is not None else None,
            entry.served_by,
        )
        _queue.put(call)

    def record_step(self, attributes: Mapping[str, Any], duration_ms: float, error: BaseException | None) -> None:
        """Note a finished step, if it is one that is measured."""
        if self._enabled and names.OPERATION_NAME in attributes:
            kind = type(error).__qualname__ if error is not None else None
            _step_metrics.measure(self._record, attributes, duration_ms, kind)

    def drain(self, deadline: float) -> bool:
        """Turn everything noted so far into measurements, until `deadline` (monotonic seconds); tell whether that was all."""
        return _queue.drain_until(deadline) and _step_metrics.drain(deadline)

    def _measure(self, call: _Call, batch: _Batch) -> None:
        """The measurements of one call. An answer from the cache or a replay took no inference and is only counted."""
        batch.add(self._record[names.CALLS], 1, _NOTHING, names.SERVED_BY, call.served_by)
        if call.served_by == "provider":
            self._measure_provider(call, batch)

    def _measure_provider(self, call: _Call, batch: _Batch) -> None:
        attributes = batch.attributes(call)
        seconds = call.duration_ms / 1000
        timed = {**attributes, names.ERROR_TYPE: call.error_type} if call.error_type else attributes
        embedding = call.model_type == "embedding"
        if not embedding:
            self._record[names.INFERENCE_DURATION](seconds, timed)
            self._measure_tokens(call.usage, attributes, batch)
        if embedding or self._older:
            self._record[names.OPERATION_DURATION](seconds, timed)
        if call.first_chunk_ms is not None:
            self._measure_chunk(call.first_chunk_ms / 1000, attributes)
        if self._older and call.usage is not None:
            self._measure_older(call.usage, attributes)

    def _measure_chunk(self, seconds: float, attributes: dict[str, Any]) -> None:
        self._record[names.INFERENCE_FIRST_CHUNK](seconds, attributes)
        if self._older:
            self._record[names.OPERATION_FIRST_CHUNK](seconds, attributes)

    def _measure_tokens(self, usage: LMUsage | None, attributes: dict[str, Any], batch: _Batch) -> None:
        if usage is None:  # the conventions ask for a zero, so that calls without usage are visible
            batch.add(self._record[names.INFERENCE_INPUT_USAGE], 0, attributes, names.TOKEN_MODALITY, "unknown")
            batch.add(self._record[names.INFERENCE_OUTPUT_USAGE], 0, attributes, names.TOKEN_MODALITY, "unknown")
            return
        if usage.input_tokens is not None:
            self._record[names.INFERENCE_INPUT_TOKENS](usage.input_tokens, attributes)
        if usage.output_tokens is not None:
            self._record[names.INFERENCE_OUTPUT_TOKENS](usage.output_tokens, attributes)
        for name, field, detail in _COUNTED:
            for modality, tokens in _by_modality(getattr(usage, field), usage, detail):
                batch.add(self._record[name], tokens, attributes, names.TOKEN_MODALITY, modality)

    def _measure_older(self, usage: LMUsage, attributes: dict[str, Any]) -> None:
        for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if tokens is not None:
                self._record[names.TOKEN_USAGE](tokens, {**attributes, names.TOKEN_TYPE: kind})


class _Batch:
    """What one pass over the queue gathers: counters are added up and given to the SDK once."""

    def __init__(self) -> None:
        self._attributes: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._sums: dict[tuple[Any, ...], tuple[Callable[..., None], int, Mapping[str, Any], str]] = {}

    def attributes(self, call: _Call) -> dict[str, Any]:
        """The attributes all metrics of a call share, one dictionary for all calls that have the same."""
        key = call[1:7]
        found = self._attributes.get(key)
        if found is None:
            found = self._attributes[key] = _shared_attributes(call)
        return found

    def add(
        self, record: Callable[..., None], amount: int, attributes: Mapping[str, Any], further: str, value: str
    ) -> None:
        """Add to a counter, under `attributes` (one object for equal ones) and one `further` attribute."""
        key = (record, id(attributes), value)
        before = self._sums.get(key)
        self._sums[key] = (record, amount + (before[1] if before else 0), attributes, further)

    def finish(self) -> None:
        """Give the sums to the SDK."""
        for (_, _, value), (record, amount, attributes, further) in self._sums.items():
            record(amount, {**attributes, further: value})


def _measure_all(calls: Sequence[tuple[Any, ...]]) -> None:
    """Turn calls into measurements; one that cannot be measured does not stop the rest."""
    batch = _Batch()
    for item in calls:
        call = _Call._make(item)
        try:
            call.metrics._measure(call, batch)
        except Exception:
            _logger.warning("lmtrace could not record the metrics of a call to %s", call.model, exc_info=True)
    batch.finish()


_queue: Final[Deferred[tuple[Any, ...]]] = Deferred(_measure_all)


def _before_collection(_options: object) -> Iterable[Observation]:
    _queue.drain()
    _step_metrics.drain()
    return ()


_COUNTED: Final = (
    (names.INFERENCE_INPUT_USAGE, "input_tokens", "prompt_tokens_details"),
    (names.INFERENCE_OUTPUT_USAGE, "output_tokens", "completion_tokens_details"),
    (names.INFERENCE_READ_USAGE, "cache_read_tokens", None),
    (names.INFERENCE_WRITE_USAGE, "cache_write_tokens", None),
    (names.INFERENCE_REASONING_USAGE, "reasoning_tokens", None),
)
"""For each counter: the field of the usage, and where the provider splits it by modality."""


def _by_modality(total: int | None, usage: LMUsage, detail: str | None) -> list[tuple[str, int]]:
    """The tokens of each modality, as far as the provider says; the conventions name the rest ``unknown``."""
    if not total:
        return [] if total is None else [("unknown", 0)]
    split = usage.details.get(detail) if usage.details and detail else None
    known = (
        [(kind, split.get(f"{kind}_tokens")) for kind in ("text", "image", "audio")] if isinstance(split, dict) else []
    )
    parts = [(kind, tokens) for kind, tokens in known if isinstance(tokens, int) and tokens > 0]
    rest = total - sum(tokens for _, tokens in parts)
    if rest < 0:  # the parts overlap: the split cannot be trusted
        return [("unknown", total)]
    return [*parts, ("unknown", rest)] if rest else parts


def _shared_attributes(call: _Call) -> dict[str, Any]:
    provider, model = identity(call.model, call.provider)
    attributes: dict[str, Any] = {
        names.OPERATION_NAME: OPERATIONS[call.model_type],
        names.PROVIDER_NAME: provider,
        names.REQUEST_MODEL: model,
    }
    if call.response_model is not None:
        attributes[names.RESPONSE_MODEL] = call.response_model
    if call.server_address is not None:
        attributes[names.SERVER_ADDRESS] = call.server_address
        if call.server_port is not None:
            attributes[names.SERVER_PORT] = call.server_port
    return attributes


def _instrument(meter: Meter, name: str) -> Callable[..., None]:
    """The method that records on the instrument of that name."""
    described = names.METRICS[name]
    if described.instrument == "counter":
        return meter.create_counter(name, unit=described.unit, description=described.description).add
    histogram = meter.create_histogram(
        name,
        unit=described.unit,
        description=described.description,
        explicit_bucket_boundaries_advisory=described.buckets,
    )
    return histogram.record
