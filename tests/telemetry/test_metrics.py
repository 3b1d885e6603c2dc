"""Metrics of calls, read back through the real SDK."""

from __future__ import annotations

import os
import threading
import time
import timeit
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader

from lmtrace import _metrics
from lmtrace import _semconv as names
from lmtrace._data import LMRequest, LMResponse, LMUsage
from lmtrace._entry import CallError, HistoryEntry
from lmtrace._metrics import Metrics

Entry = Callable[..., HistoryEntry]


class Sdk:
    """A meter provider with readers in memory."""

    def __init__(self, readers: int = 1, **options: Any) -> None:
        self.readers = [InMemoryMetricReader(**options) for _ in range(readers)]
        self.provider = MeterProvider(self.readers, shutdown_on_exit=False)
        self.meter = self.provider.get_meter("test")

    def collect(self, reader: int = 0) -> dict[str, list[Any]]:
        """The data points of each metric."""
        data = self.readers[reader].get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {metric.name: list(metric.data.data_points) for scope in scopes for metric in scope.metrics}

    def values(self) -> dict[str, Any]:
        """Sums of counters and (count, sum) of histograms, over all attributes."""
        return {
            name: sum(point.value for point in points)
            if hasattr(points[0], "value")
            else (sum(point.count for point in points), sum(point.sum for point in points))
            for name, points in self.collect().items()
        }


@pytest.fixture(autouse=True)
def _empty_queue() -> None:
    _metrics._queue.drain()


def test_a_call(make_entry: Entry):
    """A collection contains the calls recorded before it, under the current names and units."""
    sdk = Sdk()
    Metrics(sdk.meter).record(make_entry())
    assert sdk.values() == {
        "gen_ai.client.inference.duration": (1, 0.25),
        "gen_ai.client.inference.operation.input_tokens": (1, 20),
        "gen_ai.client.inference.operation.output_tokens": (1, 5),
        "gen_ai.client.inference.usage.input_tokens": 20,
        "gen_ai.client.inference.usage.output_tokens": 5,
        "gen_ai.client.inference.usage.cache_read.input_tokens": 10,
        "gen_ai.client.inference.usage.cache_write.input_tokens": 4,
        "gen_ai.client.inference.usage.reasoning.output_tokens": 2,
        "lmtrace.calls": 1,
    }


def test_attributes_are_bounded(make_entry: Entry):
    """Metric attributes are the conventions' and hold no id, no scope and no free parameter."""
    sdk = Sdk()
    entry = make_entry(scope="RAG", request=replace(make_entry().request, kwargs={"user": "u-77", "rollout_id": 5}))
    Metrics(sdk.meter, "both").record(entry)
    used = {key for points in sdk.collect().values() for point in points for key in point.attributes}
    assert used == {
        names.OPERATION_NAME,
        names.PROVIDER_NAME,
        names.REQUEST_MODEL,
        names.RESPONSE_MODEL,
        names.SERVER_ADDRESS,
        names.SERVER_PORT,
        names.TOKEN_MODALITY,
        names.TOKEN_TYPE,
        names.SERVED_BY,
    }


def test_modality(make_entry: Entry):
    """Tokens are split by modality as far as the provider says; the rest is unknown."""
    sdk = Sdk()
    Metrics(sdk.meter).record(make_entry())
    points = sdk.collect()
    split = {
        name: {point.attributes[names.TOKEN_MODALITY]: point.value for point in points[name]}
        for name in (names.INFERENCE_INPUT_USAGE, names.INFERENCE_OUTPUT_USAGE)
    }
    assert split == {
        names.INFERENCE_INPUT_USAGE: {"audio": 3, "unknown": 17},
        names.INFERENCE_OUTPUT_USAGE: {"text": 5},
    }


def test_a_split_that_does_not_add_up(make_entry: Entry, response: LMResponse):
    """Parts that exceed the total are not believed."""
    sdk = Sdk()
    usage = LMUsage(input_tokens=2, details={"prompt_tokens_details": {"audio_tokens": 3, "text_tokens": "x"}})
    Metrics(sdk.meter).record(make_entry(response=replace(response, usage=usage)))
    (point,) = sdk.collect()[names.INFERENCE_INPUT_USAGE]
    assert (point.attributes[names.TOKEN_MODALITY], point.value) == ("unknown", 2)


def test_older_names_too(make_entry: Entry):
    """`both` adds the metrics that today's boards read."""
    sdk = Sdk()
    Metrics(sdk.meter, "both").record(make_entry(time_to_first_chunk_ms=100.0))
    values = sdk.values()
    assert values["gen_ai.client.operation.duration"] == (1, 0.25)
    assert values["gen_ai.client.operation.time_to_first_chunk"] == (1, 0.1)
    assert values["gen_ai.client.inference.time_to_first_chunk"] == (1, 0.1)
    kinds = {point.attributes[names.TOKEN_TYPE]: point.sum for point in sdk.collect()[names.TOKEN_USAGE]}
    assert kinds == {"input": 20, "output": 5}


def test_off(make_entry: Entry):
    """`off` measures nothing."""
    sdk = Sdk()
    Metrics(sdk.meter, "off").record(make_entry())
    assert sdk.collect() == {}


@pytest.mark.parametrize("served_by", ["cache", "replay"])
def test_nothing_was_inferred(make_entry: Entry, served_by: Any):
    """An answer from the cache or a replay is counted as a call; it took no tokens and no inference."""
    sdk = Sdk()
    Metrics(sdk.meter, "both").record(make_entry(served_by=served_by))
    points = sdk.collect()
    assert set(points) == {names.CALLS}
    assert dict(points[names.CALLS][0].attributes) == {names.SERVED_BY: served_by}


def test_failure(make_entry: Entry):
    """A failed call has a duration with its error type, and zero tokens of unknown modality."""
    sdk = Sdk()
    error = CallError(type="TimeoutError", message="secret prompt")
    Metrics(sdk.meter).record(make_entry(response=None, error=error))
    points = sdk.collect()
    assert points[names.INFERENCE_DURATION][0].attributes[names.ERROR_TYPE] == "TimeoutError"
    (tokens,) = points[names.INFERENCE_INPUT_USAGE]
    assert (tokens.value, tokens.attributes[names.TOKEN_MODALITY]) == (0, "unknown")
    assert names.INFERENCE_INPUT_TOKENS not in points


def test_embeddings(make_entry: Entry):
    """Embeddings are no inference: they have the operation's duration."""
    sdk = Sdk()
    Metrics(sdk.meter).record(make_entry(request=LMRequest(model="openai/e", model_type="embedding")))
    assert set(sdk.collect()) == {names.OPERATION_DURATION, names.CALLS}


def test_buckets(make_entry: Entry):
    """Histograms have the conventions' buckets."""
    sdk = Sdk()
    Metrics(sdk.meter).record(make_entry())
    points = sdk.collect()
    assert points[names.INFERENCE_DURATION][0].explicit_bounds == names.SECONDS_BUCKETS
    assert points[names.INFERENCE_INPUT_TOKENS][0].explicit_bounds == names.TOKEN_BUCKETS
    assert names.TOKEN_BUCKETS[-1] == 67_108_864


def test_every_reader_sees_every_call(make_entry: Entry):
    """Two readers of one provider count the same calls, whoever collects first."""
    sdk = Sdk(readers=2)
    metrics = Metrics(sdk.meter)
    metrics.record(make_entry())
    first = sdk.collect(0)[names.CALLS][0].value
    metrics.record(make_entry())
    assert (first, sdk.collect(1)[names.CALLS][0].value, sdk.collect(0)[names.CALLS][0].value) == (1, 2, 2)


def test_delta_temporality(make_entry: Entry):
    """A reader of differences gets each call once."""
    from opentelemetry.sdk.metrics import Counter, Histogram

    delta = dict.fromkeys((Counter, Histogram), AggregationTemporality.DELTA)
    sdk = Sdk(preferred_temporality=delta)
    metrics = Metrics(sdk.meter)
    metrics.record(make_entry())
    first = sdk.values()[names.CALLS]
    metrics.record(make_entry())
    assert (first, sdk.values()[names.CALLS]) == (1, 1)


def test_reconfiguring_keeps_counting(make_entry: Entry):
    """Metrics made again on the same meter continue the same series, and a collection still empties the queue."""
    sdk = Sdk()
    Metrics(sdk.meter).record(make_entry())
    Metrics(sdk.meter, "both").record(make_entry())
    assert sdk.values()[names.CALLS] == 2


def test_a_provider_set_later(make_entry: Entry):
    """Calls made before the application sets its meter provider are measured once it does."""
    proxy = _ProxyMeterProvider()
    Metrics(proxy.get_meter("test")).record(make_entry())
    sdk = Sdk()
    proxy.on_set_meter_provider(sdk.provider)
    assert sdk.values()[names.CALLS] == 1


def test_drain_measures_at_once(make_entry: Entry):
    """`drain` needs no reader to collect."""
    sdk = Sdk()
    metrics = Metrics(sdk.meter)
    metrics.record(make_entry())
    assert metrics.drain(time.monotonic() + 60)
    assert not len(_metrics._queue)
    assert sdk.values()[names.CALLS] == 1


def test_threads(make_entry: Entry):
    """Many threads recording while a reader collects lose no call and count none twice."""
    sdk = Sdk()
    metrics = Metrics(sdk.meter)
    entry = make_entry()

    def work() -> None:
        for _ in range(500):
            metrics.record(entry)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        sdk.collect()
    assert sdk.values()[names.CALLS] == 4_000
    assert sdk.values()[names.INFERENCE_DURATION][0] == 4_000


def test_a_bad_call_does_not_stop_the_rest(make_entry: Entry, caplog: pytest.LogCaptureFixture):
    """A call that cannot be measured is logged, and those after it are measured."""
    sdk = Sdk()
    metrics = Metrics(sdk.meter)
    metrics.record(make_entry(duration_ms="odd"))
    metrics.record(make_entry())
    assert sdk.values()[names.INFERENCE_DURATION] == (1, 0.25)
    assert "could not record the metrics" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_repeats_nothing(make_entry: Entry):
    """What waited in the parent is measured by the parent only."""
    sdk = Sdk()
    metrics = Metrics(sdk.meter)
    metrics.record(make_entry())
    child = os.fork()
    if child == 0:
        metrics.record(make_entry())
        os._exit(0 if sdk.values()[names.CALLS] == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sdk.values()[names.CALLS] == 1


def test_recording_is_cheap(make_entry: Entry):
    """The caller pays well under a microsecond (0.25 measured; 5 allowed on a busy machine)."""
    metrics = Metrics(NoOpMeterProvider().get_meter("test"))
    entry = make_entry()
    seconds = min(timeit.repeat(lambda: metrics.record(entry), number=500, repeat=5))
    assert seconds / 500 < 5e-6
