"""Other tracers, each measured in an environment and a process of its own, in turn, so that drift hits all alike."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENVIRONMENTS = Path(__file__).parent.parent / ".venv-peers"


@dataclass
class Installed:
    """A tracer: how to switch it for a block of calls, and how to flush it. It is off at first."""

    flush: Callable[[], object]
    on: Callable[[], object]
    off: Callable[[], object]


def set_up_provider(address: str) -> Any:
    """An SDK provider with a batch processor, as an application would have."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{address}/v1/traces")))
    trace.set_tracer_provider(provider)
    return provider


def environment_of(name: str, packages: Sequence[str]) -> str:
    """The Python of a tracer's environment, made when missing; this one where there is nothing to install."""
    if not packages:
        return sys.executable
    python = ENVIRONMENTS / name / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENTS / name], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    return str(python)


def run_in_turn(
    program: str, environments: Mapping[str, str], address: str, rounds: int, repeats: int
) -> dict[str, list[Any]]:
    """What `program` prints last, as JSON, for each tracer, once for each repeat."""
    results: dict[str, list[Any]] = {name: [] for name in environments}
    for _ in range(repeats):
        for name, python in environments.items():
            command = [python, program, "--tracer", name, "--address", address, "--rounds", str(rounds)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            try:
                results[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
            except (IndexError, json.JSONDecodeError):
                print(f"{name} did not run: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
    return results
