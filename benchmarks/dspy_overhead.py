"""What recording adds to DSPy: a bare ``lm(...)`` and a ``dspy.Predict``, here and with other tracers.

Processes without a tracer, with a bare SDK span around each call and with the tracer alternate; ``callback`` is DSPy's dispatch
to a callback that does nothing. The engine answers at once, so what is measured is DSPy itself and what
stands around it. Spans go through the SDK's batch processor to an OTLP/HTTP collector in another process, messages included where
the tracer can, rows of lmtrace to a real store. Runs in an environment with DSPy 3.4: ``.venv-dspy-3.4.1/bin/python
benchmarks/dspy_overhead.py`` (`make test-dspy` makes it). ``--peers`` makes an environment for each peer under ``.venv-peers/``
(needs the package registry) and runs all of them in turn, several times.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from typing import Any

from _dspy_peers import INSTALLERS, PEERS
from _peers import ARMS, environment_of, run_in_turn, show, timed
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


def run_tracer(name: str, address: str, arm: str, rounds: int) -> dict[str, Any]:
    """Blocks of calls in this process."""
    lm = dspy.LM("openai/gpt-4o-mini", engine=Engine(), cache=False)
    predict = dspy.Predict("question -> answer")
    predict.lm = lm
    calls = {"lm()": lambda: lm(QUESTION), "Predict()": lambda: predict(question=QUESTION)}
    return timed(calls, INSTALLERS[name](address), arm, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="measure the peers too")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tracer", choices=INSTALLERS, help=argparse.SUPPRESS)
    parser.add_argument("--arm", choices=ARMS, default="on", help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tracer:
        print(json.dumps(run_tracer(options.tracer, options.address, options.arm, options.rounds)))
        return
    names = list(INSTALLERS) if options.peers else ["lmtrace", "callback"]
    environments = {name: environment_of(f"dspy-{name}", PEERS.get(name, ())) for name in names}
    with sink() as address:
        results = run_in_turn(__file__, environments, address, options.rounds, options.repeats)
    for what in ("lm()", "Predict()"):
        show(what, results)


if __name__ == "__main__":
    main()
