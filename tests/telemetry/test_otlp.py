"""OTLP set-up: what is sent where, what is left alone, and how long a bad collector may take."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from patience import assert_within

from lmtrace import SettingsError
from lmtrace_exporters import setup_otlp
from lmtrace_exporters._otlp_signals import REQUEST_BYTES, Tally, _counted, _parts

CANARY = "hcaik_canary_5f2e"


def run(program: str, *arguments: str, **environment: str) -> tuple[Any, str, float]:
    """Run a program that prints one JSON line; its value, everything it wrote, and the seconds from then to its end."""
    code = (
        "import json, sys, time\nfrom lmtrace_exporters import setup_otlp\nfrom opentelemetry import trace, metrics\n"
        + program
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    began = time.monotonic()
    out, err = process.communicate(timeout=200)
    seconds = time.monotonic() - began
    assert line, err
    assert process.returncode == 0, err
    return json.loads(line), line + out + err, seconds


class Collector(ThreadingHTTPServer):
    """Takes OTLP requests and answers with a status."""

    daemon_threads = True

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.bodies: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.bodies[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Nothing is printed."""


@contextmanager
def collector(status: int = 200) -> Iterator[Collector]:
    with Collector(status) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def hanging() -> Iterator[str]:
    """A collector that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def dead() -> Iterator[str]:
    """An address nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@contextmanager
def refusing() -> Iterator[str]:
    with collector(503) as server:
        yield server.url


SPAN = """
with trace.get_tracer("t").start_as_current_span("work"):
    metrics.get_meter("t").create_counter("c").add(1)
"""

BAD = (
    "handle = setup_otlp(sys.argv[1], protocol=sys.argv[2])"
    + SPAN
    + """
began = time.monotonic()
arrived = handle.force_flush(300)
print(json.dumps([arrived, time.monotonic() - began]), flush=True)
"""
)


@pytest.mark.parametrize(
    ("bad", "protocol"),
    [
        (hanging, "http/protobuf"),
        (dead, "http/protobuf"),
        (refusing, "http/protobuf"),
        (hanging, "grpc"),
        pytest.param(dead, "grpc", marks=[pytest.mark.slow, pytest.mark.quiet]),
        pytest.param(refusing, "grpc", marks=[pytest.mark.slow, pytest.mark.quiet]),
    ],
)
def test_a_bad_collector(bad: Any, protocol: str):
    """With a collector that hangs, is dead or refuses, a flush says no within its deadline and exit takes two seconds at most."""

    def lateness() -> float:
        with bad() as url:
            (arrived, seconds), _, exit_seconds = run(BAD, url, protocol)
        assert arrived is False
        return max(seconds - 0.3, (exit_seconds - 2) / 2)

    assert_within(0.5, lateness)  # and a second for the interpreter's own end


def test_flush_is_true_when_all_arrived():
    """A flush says yes when everything reached the collector, at the paths of OTLP."""
    with collector() as server:
        program = (
            "handle = setup_otlp(sys.argv[1])" + SPAN + "print(json.dumps([handle.force_flush(), handle.stats()]))"
        )
        (arrived, stats), _, _ = run(program, server.url)
    assert arrived is True
    assert stats["traces"] == {"sent": 1, "failed": 0, "ended": 1}
    assert {path for path, _ in server.seen} == {"/v1/traces", "/v1/metrics"}


def test_flush_tells_what_was_lost_before():
    """A span the collector refused in the background makes the next flush say no, and only that one."""
    program = (
        "handle = setup_otlp(sys.argv[1])\n"
        "tracer = trace.get_tracer('t')\n"
        "for _ in range(128): tracer.start_span('s').end()\n"
        "while handle.stats()['traces']['failed'] < 128: time.sleep(0.01)\n"
        "print(json.dumps([handle.force_flush(), handle.force_flush()]))"
    )
    with collector(400) as server:
        outcomes, _, _ = run(program, server.url, OTEL_METRICS_EXPORTER="none")
    assert outcomes == [False, True]


def test_dropped_spans_are_known():
    """Spans dropped because too many waited are missing in the account, and the flush says so."""
    program = (
        "handle = setup_otlp(sys.argv[1])\n"
        "tracer = trace.get_tracer('t')\n"
        "for _ in range(5000): tracer.start_span('s').end()\n"
        "print(json.dumps([handle.force_flush(), handle.stats()['traces']]))"
    )
    limits = {"OTEL_BSP_MAX_QUEUE_SIZE": "20", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "20"}
    with collector() as server:
        (arrived, stats), _, _ = run(program, server.url, **limits)
    assert arrived is False
    assert stats["ended"] == 5000
    assert stats["sent"] < 5000
    assert stats["failed"] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("end", ["os._exit(0 if handle.force_flush() else 1)", "sys.exit(0)"])
def test_a_forked_child_sends_its_own(receiver: Any, end: str):
    """Spans of parent and child arrive once each, whether the child flushes or just ends."""
    program = f"""
import os
handle = setup_otlp(sys.argv[1])
tracer = trace.get_tracer("t")
tracer.start_span("parent").end()
child = os.fork()
if child == 0:
    tracer.start_span("child").end()
    {end}
status = os.waitpid(child, 0)[1]
print(json.dumps([status, handle.force_flush()]))
"""
    assert run(program, receiver.http)[0] == [0, True]
    assert sorted(span["name"] for span in receiver.spans()) == ["child", "parent"]


def test_what_waits_is_sent_at_exit():
    """A program that just ends loses nothing when the collector is well."""
    with collector() as server:
        run("handle = setup_otlp(sys.argv[1])" + SPAN + "print('1')", server.url)
    assert {path for path, _ in server.seen} == {"/v1/traces", "/v1/metrics"}


def test_the_applications_providers_stay():
    """A provider the application has set is neither replaced nor added to; the other signals are set up."""
    program = """
from opentelemetry.sdk.trace import TracerProvider
own = TracerProvider(shutdown_on_exit=False)
trace.set_tracer_provider(own)
handle = setup_otlp("http://localhost:4318")
processors = own._active_span_processor._span_processors
same = trace.get_tracer_provider() is own
print(json.dumps([same, len(processors), handle.signals, handle.kept, repr(handle)]))
handle.shutdown(1)
"""
    (same, processors, signals, kept, text), _, _ = run(program)
    assert (same, processors) == (True, 0)
    assert (signals, kept) == (["metrics", "logs"], ["traces"])
    assert text == "<Otlp http://localhost:4318 http/protobuf: metrics, logs; the application's own: traces>"


def test_a_second_call_returns_the_first():
    """Set up twice, a process has one set of providers, and is told that the second endpoint is not used."""
    program = """
one = setup_otlp("http://localhost:4318")
two = setup_otlp("http://localhost:9999")
print(json.dumps([one is two, two.endpoint]))
one.shutdown(1)
"""
    (same, endpoint), written, _ = run(program)
    assert same
    assert endpoint == "http://localhost:4318"
    assert "restart it to use http://localhost:9999" in written


def test_variables_are_honoured():
    """Endpoint, headers, service name and left-out signals come from OpenTelemetry's variables when not given."""
    program = (
        "handle = setup_otlp()" + SPAN + "print(json.dumps([handle.force_flush(), handle.signals, handle.endpoint]))"
    )
    with collector() as server:
        (arrived, signals, endpoint), _, _ = run(
            program,
            OTEL_EXPORTER_OTLP_ENDPOINT=server.url,
            OTEL_EXPORTER_OTLP_HEADERS="x-token=abc",
            OTEL_LOGS_EXPORTER="none",
        )
    assert (arrived, signals, endpoint) == (True, ["traces", "metrics"], server.url)
    assert {headers["x-token"] for _, headers in server.seen} == {"abc"}


@pytest.mark.parametrize(
    ("given", "variables", "expected"),
    [
        ("'mine'", {"OTEL_SERVICE_NAME": "theirs"}, "mine"),
        ("None", {"OTEL_SERVICE_NAME": "theirs"}, "theirs"),
        ("None", {"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs"}, "theirs"),
        ("None", {}, "python"),
    ],
)
def test_service_name(given: str, variables: dict[str, str], expected: str):
    """The service is called as given, as the variables say, or as the program."""
    program = f"""
setup_otlp("http://localhost:4318", service_name={given}).shutdown(1)
print(json.dumps(trace.get_tracer_provider().resource.attributes["service.name"]))
"""
    assert run(program, **variables)[0] == expected


def test_jaeger_takes_traces_only():
    """The Jaeger preset sends nothing that Jaeger would refuse."""
    program = "h = setup_otlp(preset='jaeger')\nprint(json.dumps([h.endpoint, h.signals]))\nh.shutdown(1)"
    assert run(program)[0] == ["http://localhost:4318", ["traces"]]


def test_honeycomb():
    """The Honeycomb preset sends the key as its header and metrics as differences to a dataset, and shows the key nowhere."""
    program = (
        "import logging; logging.basicConfig(level=1)\n"
        "handle = setup_otlp(sys.argv[1], preset='honeycomb', service_name='svc', headers={'X-Extra': '1'})"
        + SPAN
        + "print(json.dumps([handle.force_flush(), repr(handle)]))"
    )
    with collector() as server:
        (arrived, text), written, _ = run(program, server.url, HONEYCOMB_API_KEY=CANARY)
    assert arrived is True
    assert {headers["x-honeycomb-team"] for _, headers in server.seen} == {CANARY}
    assert {headers["x-extra"] for _, headers in server.seen} == {"1"}
    datasets = {path: headers.get("x-honeycomb-dataset") for path, headers in server.seen}
    assert datasets == {"/v1/traces": None, "/v1/metrics": "svc_metrics"}
    metrics = ExportMetricsServiceRequest.FromString(server.bodies["/v1/metrics"])
    scopes = metrics.resource_metrics[0].scope_metrics
    (metric,) = [metric for scope in scopes for metric in scope.metrics if metric.name == "c"]
    assert metric.sum.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    assert CANARY not in text + written


def test_credentials_in_the_endpoint_become_a_header():
    """User and password in the address authenticate, and are not shown in any text or log."""
    program = (
        "import logging; logging.basicConfig(level=1)\n"
        "handle = setup_otlp(sys.argv[1])"
        + SPAN
        + "print(json.dumps([handle.force_flush(), repr(handle), handle.endpoint]))"
    )
    with collector() as server:
        host = server.url.removeprefix("http://")
        (arrived, text, endpoint), written, _ = run(program, f"http://user:{CANARY}%21@{host}/")
    assert arrived is True
    assert endpoint == server.url
    assert {headers["authorization"][:6] for _, headers in server.seen} == {"Basic "}
    assert CANARY not in text + written


def test_a_failing_collector_does_not_show_the_key():
    """What is logged about a failure holds no header."""
    program = (
        "import logging; logging.basicConfig(level=1)\n"
        f"handle = setup_otlp(sys.argv[1], headers={{'x-honeycomb-team': '{CANARY}'}})"
        + SPAN
        + "print(json.dumps(handle.force_flush()))"
    )
    with collector(403) as server:
        arrived, written, _ = run(program, server.url)
    assert arrived is False
    assert CANARY not in written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"endpoint": "localhost:4318"}, "must look like"),
        ({"endpoint": "file:///etc/passwd"}, "must look like"),
        ({"endpoint": f"http://user:{CANARY}@"}, "must look like"),
        ({"endpoint": f"http://[{CANARY}"}, "not a valid address"),
        ({"endpoint": f"https://host/?api_key={CANARY}"}, "https://host has a query"),
        ({"protocol": "http/json"}, "http/protobuf, grpc"),
        ({"preset": "jager"}, "jaeger, honeycomb"),
        ({"preset": "honeycomb"}, "HONEYCOMB_API_KEY"),
        ({"headers": {"x-key": f"{CANARY}\n"}}, "'x-key'"),
        ({"headers": {"x-key": 5}}, "'x-key'"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch):
    """What makes no sense is refused at once, in words that help and give no key away."""
    monkeypatch.delenv("HONEYCOMB_API_KEY", raising=False)
    with pytest.raises(SettingsError, match=message) as caught:
        setup_otlp(**arguments)
    assert CANARY not in str(caught.value)


class Plain:
    """An exporter that can be told to fail."""

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.closed = 0

    def export(self, items: Any) -> Any:
        self.batches.append(list(items))
        if items[0] == "raise":
            raise OSError("no network")
        return SimpleNamespace(name="FAILURE" if items[0] == "fail" else "SUCCESS")

    def shutdown(self) -> None:
        self.closed += 1


def test_the_account_of_an_exporter():
    """Every item is counted once, as sent or as failed; closing twice closes once."""
    tally = Tally()
    exporter = _counted(Plain, "logs", tally)()
    exporter.export(["a", "b"])
    exporter.export(["fail"])
    with pytest.raises(OSError, match="no network"):
        exporter.export(["raise", "c"])
    exporter.shutdown()
    exporter.shutdown()
    assert (tally.sent, tally.failed, exporter.closed) == (2, 3, 1)


def test_requests_stay_small():
    """Spans with long texts are sent in several requests, below the size receivers refuse; none is lost or reordered."""
    spans = [SimpleNamespace(attributes={"m": "x" * 60_000, "n": 1, "number": index}) for index in range(128)]
    parts = list(_parts(spans))
    assert [span for part in parts for span in part] == spans
    assert max(sum(60_000 for _ in part) for part in parts) <= REQUEST_BYTES
    assert len(parts) == 3
    huge = SimpleNamespace(attributes={"m": "x" * (REQUEST_BYTES + 1)})
    assert [len(part) for part in _parts([huge, huge])] == [1, 1]
    small = [SimpleNamespace(attributes={"m": "x"}) for _ in range(128)]
    assert [len(part) for part in _parts(small)] == [128]


def test_nothing_of_otlp_is_loaded_before_it_is_needed():
    """Importing the module that sets up OTLP loads no exporter."""
    program = (
        "import sys\nfrom lmtrace_exporters import setup_otlp\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'grpc', 'requests'))])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_logging_is_quiet(caplog: pytest.LogCaptureFixture):
    """Refused arguments are errors, not log lines."""
    with caplog.at_level(logging.DEBUG), pytest.raises(SettingsError):
        setup_otlp("nonsense")
    assert not caplog.records
