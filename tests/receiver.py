"""A real OTLP receiver and helpers to start servers, for the folders of tests that import these fixtures."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest


@dataclass
class Receiver:
    """A running OTLP receiver that tells what it got."""

    http: str
    grpc: str

    def read(self, signal: str) -> list[dict[str, Any]]:
        """The export requests of a signal, decoded."""
        with urllib.request.urlopen(f"{self.http}/test/session/{signal}", timeout=60) as answer:
            requests: list[dict[str, Any]] = json.load(answer)
        return requests

    def spans(self) -> list[dict[str, Any]]:
        """All spans, their attributes as a dictionary."""
        scopes = (
            scope
            for request in self.read("traces")
            for item in request["resource_spans"]
            for scope in item["scope_spans"]
        )
        return [
            {**span, "attributes": plain(span.get("attributes", ()))} for scope in scopes for span in scope["spans"]
        ]

    def metrics(self) -> dict[str, dict[str, Any]]:
        """The last state of each metric."""
        scopes = (
            scope
            for request in self.read("metrics")
            for item in request["resource_metrics"]
            for scope in item["scope_metrics"]
        )
        return {metric["name"]: metric for scope in scopes for metric in scope["metrics"]}

    def events(self) -> list[dict[str, Any]]:
        """All log records, their attributes as a dictionary."""
        scopes = (
            scope for request in self.read("logs") for item in request["resource_logs"] for scope in item["scope_logs"]
        )
        return [
            {**log, "attributes": plain(log.get("attributes", ()))} for scope in scopes for log in scope["log_records"]
        ]

    def clear(self) -> None:
        urllib.request.urlopen(f"{self.http}/test/session/clear", timeout=60).close()


def plain(attributes: Any) -> dict[str, Any]:
    """OTLP attributes as a dictionary."""
    return {item["key"]: _plain_value(item["value"]) for item in attributes}


def _plain_value(value: dict[str, Any]) -> Any:
    ((kind, content),) = value.items()
    if kind == "array_value":
        return [_plain_value(item) for item in content.get("values", ())]
    if kind == "kvlist_value":
        return plain(content.get("values", ()))
    return int(content) if kind == "int_value" else content


@pytest.fixture(scope="session")
def running_receiver(otlp_agent: str) -> Iterator[Receiver]:
    ports = free_ports(4)
    names = ("-p", "--otlp-http-port", "--otlp-grpc-port", "--web-ui-port")
    options = [part for name, port in zip(names, ports, strict=True) for part in (name, str(port))]
    process = subprocess.Popen(
        [otlp_agent, "--host", "127.0.0.1", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    receiver = Receiver(f"http://127.0.0.1:{ports[1]}", f"http://127.0.0.1:{ports[2]}")
    try:
        answers(lambda: receiver.read("traces"), process)
        yield receiver
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def receiver(running_receiver: Receiver) -> Receiver:
    """An OTLP receiver, over HTTP and gRPC, that has received nothing yet."""
    running_receiver.clear()
    return running_receiver


@pytest.fixture(scope="session")
def servers() -> SimpleNamespace:
    """Helpers to start a server: `free_ports(count)` and `answers(ask, process, seconds)`."""
    return SimpleNamespace(free_ports=free_ports, answers=answers)


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


def answers(ask: Callable[[], object], process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            ask()
        except OSError:
            if process.poll() is not None:
                pytest.fail(f"{process.args!r} ended with {process.returncode}")
            if time.monotonic() > deadline:
                pytest.fail(f"{process.args!r} does not answer")
            time.sleep(0.05)
        else:
            return
