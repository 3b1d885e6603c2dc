"""What recording adds to DSPy: a bare ``lm(...)`` and a ``dspy.Predict``, here and with other tracers.

Each tracer runs in a process of its own (``--tracer NAME``), where blocks of calls without and with it alternate; ``callback`` is
DSPy's dispatch to a callback that does nothing. The engine answers at once, so what is measured is DSPy itself and what
stands around it. Spans go through the SDK's batch processor to an OTLP/HTTP collector in another process, messages included where
the tracer can, rows of lmtrace to a real store. Runs in an environment with DSPy 3.4: ``.venv-dspy-3.4.1/bin/python
benchmarks/dspy_overhead.py`` (`make test-dspy` makes it). ``--peers`` makes an environment for each peer under ``.venv-peers/``
(needs the package registry) and runs all of them in turn, several times.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import warnings
from typing import Any

from _arms import Arm, measure
from _dspy_peers import INSTALLERS, PEERS
from _peers import environment_of, run_in_turn
from _sink import sink

try:
    import dspy
except ImportError:
    print("DSPy is not installed here; see the docstring")
    sys.exit(0)

warnings.simplefilter("ignore")
WORDS = "the quick brown fox jumps over a lazy dog while five boxing wizards look on and count what it costs "
QUESTION = (WORDS * 20)[:1500]
ANSWER = f"[[ ## answer ## ]]\n{(WORDS * 4)[:300]}\n\n[[ ## completed ## ]]"


class Engine:
    """Answers at once."""

    def complete(self, request: Any) -> Any:
        from dspy.lm15 import Message, Response, TextPart, Usage

        return Response(
            id="chatcmpl-1",
            model="gpt-4o-mini",
            message=Message(role="assistant", parts=(TextPart(ANSWER),)),
            finish_reason="stop",
            usage=Usage(input_tokens=400, output_tokens=80, total_tokens=480),
        )


def run_tracer(name: str, address: str, rounds: int) -> dict[str, dict[str, float]]:
    """Blocks of calls without and with the tracer in this process."""
    lm = dspy.LM("openai/gpt-4o-mini", engine=Engine(), cache=False)
    predict = dspy.Predict("question -> answer")
    predict.lm = lm
    tracer = INSTALLERS[name](address)
    calls = {"lm()": lambda: lm(QUESTION), "Predict()": lambda: predict(question=QUESTION)}
    arms = [Arm(what, call, switch, tracer.flush) for what, call in calls.items() for switch in (tracer.off, tracer.on)]
    measure(arms, rounds=rounds, block=20, pause=0.001)
    return {off.name: compared(off, on) for off, on in zip(arms[::2], arms[1::2], strict=True)}


def compared(off: Arm, on: Arm) -> dict[str, float]:
    """Microseconds that the tracer adds to a call, and what the call takes without."""
    return {"bare": off.p50, "p50": on.p50 - off.p50, "p99": on.p99 - off.p99, "cpu": on.cpu - off.cpu}


def show(what: str, results: dict[str, list[Any]]) -> None:
    """A table of one kind of call."""
    print(f"\n`{what}` of DSPy {dspy.__version__}: added to the call (median of processes)\n")
    print("| tracer | p50 µs | p99 µs | CPU µs | bare call µs |\n|---|---|---|---|---|")
    for name, runs in results.items():
        if runs:
            mid = {key: statistics.median(run[what][key] for run in runs) for key in runs[0][what]}
            print(f"| {name} | {mid['p50']:+.0f} | {mid['p99']:+.0f} | {mid['cpu']:+.0f} | {mid['bare']:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="measure the peers too")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tracer", choices=INSTALLERS, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tracer:
        print(json.dumps(run_tracer(options.tracer, options.address, options.rounds)))
        return
    names = list(INSTALLERS) if options.peers else ["lmtrace", "callback"]
    environments = {name: environment_of(f"dspy-{name}", PEERS.get(name, ())) for name in names}
    with sink() as address:
        results = run_in_turn(__file__, environments, address, options.rounds, options.repeats)
    for what in ("lm()", "Predict()"):
        show(what, results)


if __name__ == "__main__":
    main()
