"""Metrics of finished calls, recorded away from the caller.

One SDK measurement costs about 7 µs and a call makes four or more, so `Metrics.record` only appends a small tuple. The
tuples become measurements when a reader collects: the callback of `lmtrace.calls`, an observable counter, empties the
queue first, and the SDK runs callbacks before it reads the other instruments, so they are part of the same collection.
A long queue (no reader, or a slow one) is shortened by two for each call that comes.

Ids, messages and free parameters are never metric attributes: each value of one makes a time series.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from lmtrace import _semconv as names
from lmtrace._data import OPERATIONS, LMUsage
from lmtrace._entry import HistoryEntry
from lmtrace._providers import identity

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, Observation

QUEUE_LIMIT: Final = 4096
"""Waiting calls above which callers take part in the work."""

_SHARE: Final = 2
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
        self._queue = _queue_of(meter)
        self._enabled = mode != "off"
        self._older = mode == "both"
        self._record: dict[str, Callable[..., None]] = {name: _instrument(meter, name) for name in _MODES[mode]}
        if self._enabled:
            described = names.METRICS[names.CALLS]
            meter.create_observable_counter(
                names.CALLS, [self._queue.observe], unit=described.unit, description=described.description
            )

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
        queue = self._queue
        queue.pending.append(call)
        if len(queue.pending) > QUEUE_LIMIT:
            queue.drain(_SHARE)

    def drain(self) -> None:
        """Turn everything noted so far into measurements."""
        self._queue.drain()

    def _measure(self, call: _Call, batch: _Batch) -> None:
        """The measurements of one call that asked a provider."""
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
            batch.add(self._record[names.INFERENCE_INPUT_USAGE], attributes, "unknown", 0)
            batch.add(self._record[names.INFERENCE_OUTPUT_USAGE], attributes, "unknown", 0)
            return
        if usage.input_tokens is not None:
            self._record[names.INFERENCE_INPUT_TOKENS](usage.input_tokens, attributes)
        if usage.output_tokens is not None:
            self._record[names.INFERENCE_OUTPUT_TOKENS](usage.output_tokens, attributes)
        for name, field, detail in _COUNTED:
            for modality, tokens in _by_modality(getattr(usage, field), usage, detail):
                batch.add(self._record[name], attributes, modality, tokens)

    def _measure_older(self, usage: LMUsage, attributes: dict[str, Any]) -> None:
        for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if tokens is not None:
                self._record[names.TOKEN_USAGE](tokens, {**attributes, names.TOKEN_TYPE: kind})


class _Batch:
    """What one pass over the queue gathers: counters are added up and given to the SDK once."""

    def __init__(self) -> None:
        self._attributes: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._sums: dict[tuple[Any, ...], tuple[Callable[..., None], dict[str, Any], int]] = {}
        self.served: dict[str, int] = {}

    def attributes(self, call: _Call) -> dict[str, Any]:
        """The attributes all metrics of a call share, one dictionary for all calls that have the same."""
        key = call[1:7]
        found = self._attributes.get(key)
        if found is None:
            found = self._attributes[key] = _shared_attributes(call)
        return found

    def add(self, record: Callable[..., None], attributes: dict[str, Any], modality: str, tokens: int) -> None:
        key = (record, id(attributes), modality)
        total = tokens + (self._sums[key][2] if key in self._sums else 0)
        self._sums[key] = (record, attributes, total)

    def finish(self) -> None:
        for (_, _, modality), (record, attributes, total) in self._sums.items():
            record(total, {**attributes, names.TOKEN_MODALITY: modality})


class _Queue:
    """The calls that wait, and the totals of those that do not; one for each meter.

    A meter gives the same instrument to everyone who asks for a name and keeps the first callback only, so everything
    made for it (after each `configure`) has to share one queue.
    """

    def __init__(self) -> None:
        self.pending: deque[tuple[Any, ...]] = deque()
        self._totals: dict[str, int] = {}
        self._lock = threading.Lock()

    def observe(self, _options: object) -> Iterable[Observation]:
        """The callback of `lmtrace.calls`."""
        from opentelemetry.metrics import Observation

        self.drain()
        with self._lock:
            totals = dict(self._totals)
        return [Observation(total, {names.SERVED_BY: served_by}) for served_by, total in totals.items()]

    def drain(self, limit: int | None = None) -> None:
        """Turn waiting calls, at most `limit`, into measurements; one that cannot be measured does not stop the rest."""
        batch = _Batch()
        for _ in range(len(self.pending) if limit is None else limit):
            try:
                call = _Call._make(self.pending.popleft())
            except IndexError:  # another thread took it
                break
            batch.served[call.served_by] = batch.served.get(call.served_by, 0) + 1
            if call.served_by == "provider":
                self._measure(call, batch)
        batch.finish()
        with self._lock:
            for served_by, calls in batch.served.items():
                self._totals[served_by] = self._totals.get(served_by, 0) + calls

    def forget(self) -> None:
        """In a forked child: what waits belongs to the parent. The totals stay, as those of the SDK's counters do."""
        self.pending.clear()
        self._lock = threading.Lock()

    @staticmethod
    def _measure(call: _Call, batch: _Batch) -> None:
        try:
            call.metrics._measure(call, batch)
        except Exception:
            _logger.warning("lmtrace could not record the metrics of a call to %s", call.model, exc_info=True)


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


_queues: WeakKeyDictionary[Meter, _Queue] = WeakKeyDictionary()
_queues_lock = threading.Lock()


def _queue_of(meter: Meter) -> _Queue:
    with _queues_lock:
        return _queues.setdefault(meter, _Queue())


def _forget_parent() -> None:
    global _queues_lock
    _queues_lock = threading.Lock()
    for queue in list(_queues.values()):
        queue.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
