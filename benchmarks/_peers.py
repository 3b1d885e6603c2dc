"""Other tracers, each measured in an environment of its own, and processes with and without it in turn.

A tracer is switched on once in the life of a process, as in a program: methods put into classes and taken out again
make Python forget what it had learnt about them, and the calls without a tracer pay for that, too.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _arms import Arm, measure

ENVIRONMENTS = Path(__file__).parent.parent / ".venv-peers"


@dataclass
class Installed:
    """A tracer: how to flush it, and how to switch it on. It is off at first."""

    flush: Callable[[], object]
    on: Callable[[], object]


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


ARMS = ("off", "span", "on")
"""A process without the tracer, one with a bare SDK span around each call, one with the tracer."""
ATTRIBUTES = {f"gen_ai.bench.attribute_{i}": f"value {i}" for i in range(18)}


def timed(calls: Mapping[str, Callable[[], object]], tracer: Installed, arm: str, rounds: int) -> dict[str, Any]:
    """What each of the calls takes in this process: p50, p99 and CPU, in microseconds."""
    if arm == "on":
        tracer.on()
    arms = [Arm(what, in_span(call) if arm == "span" else call, settle=tracer.flush) for what, call in calls.items()]
    measure(arms, rounds=rounds)
    return {timed.name: {"p50": timed.p50, "p99": timed.p99, "cpu": timed.cpu} for timed in arms}


def in_span(call: Callable[[], object]) -> Callable[[], object]:
    """`call` inside a span of the SDK with as many attributes as that of a tracer has."""
    from opentelemetry import trace

    spans = trace.get_tracer("bench")

    def wrapped() -> None:
        with spans.start_as_current_span("chat gpt-4o-mini", kind=trace.SpanKind.CLIENT) as span:
            call()
            span.set_attributes(ATTRIBUTES)

    return wrapped


def run_in_turn(
    program: str, environments: Mapping[str, str], address: str, rounds: int, repeats: int
) -> dict[str, dict[str, list[Any]]]:
    """What `program` prints last, as JSON, for each tracer and arm, once for each repeat."""
    results: dict[str, dict[str, list[Any]]] = {name: {arm: [] for arm in ARMS} for name in environments}
    for _ in range(repeats):
        for name, python in environments.items():
            for arm in ARMS:
                command = [python, program, "--tracer", name, "--arm", arm, "--address", address]
                command += ["--rounds", str(rounds)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                try:
                    results[name][arm].append(json.loads(done.stdout.strip().splitlines()[-1]))
                except (IndexError, json.JSONDecodeError):
                    print(f"{name} did not run: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
    return results


def show(what: str, results: Mapping[str, Mapping[str, list[Any]]]) -> None:
    """A table of what each tracer adds to one kind of call: differences between medians of processes."""
    print(f"\n`{what}`: added to the call\n")
    print("| tracer | p50 µs | p99 µs | CPU µs | bare SDK span, p50 µs | bare call µs |\n|---|---|---|---|---|---|")
    for name, arms in results.items():
        if all(arms.values()):
            off, span, on = ({key: _median(runs, what, key) for key in ("p50", "p99", "cpu")} for runs in arms.values())
            added = " | ".join(f"{on[key] - off[key]:+.0f}" for key in on)
            print(f"| {name} | {added} | {span['p50'] - off['p50']:+.0f} | {off['p50']:.0f} |")


def _median(runs: Sequence[Any], what: str, key: str) -> float:
    return statistics.median(run[what][key] for run in runs)
