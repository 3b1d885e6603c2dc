"""What recording adds to DSPy: a bare ``lm(...)`` and a ``dspy.Predict``, beside a callback that does nothing.

The engine answers at once, so what is measured is DSPy itself and what stands around it. Spans go through the SDK's batch
processor to an OTLP/HTTP collector in another process, rows to a real store. Runs in an environment with DSPy 3.4:
``.venv-dspy-3.4.1/bin/python benchmarks/dspy_overhead.py`` (`make test-dspy` makes it).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from typing import Any

from _arms import Arm, measure, table
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


class Silent(dspy.utils.BaseCallback):
    """A callback that does nothing."""


def arms_for(flush: Any) -> list[Arm]:
    import lmtrace

    plain = dspy.LM("openai/gpt-4o-mini", engine=Engine(), cache=False)
    watched = dspy.LM("openai/gpt-4o-mini", engine=Engine(), cache=False, callbacks=[Silent()])
    predict, watched_predict = dspy.Predict("question -> answer"), dspy.Predict("question -> answer")
    predict.lm, watched_predict.lm, watched_predict.callbacks = plain, watched, [Silent()]
    off = lmtrace.uninstrument
    return [
        Arm("lm()", lambda: plain(QUESTION), off, flush),
        Arm("lm(), silent callback", lambda: watched(QUESTION), off, flush),
        Arm("lm(), lmtrace", lambda: plain(QUESTION), lmtrace.instrument, flush),
        Arm("Predict()", lambda: predict(question=QUESTION), off, flush),
        Arm("Predict(), silent callbacks", lambda: watched_predict(question=QUESTION), off, flush),
        Arm("Predict(), lmtrace", lambda: predict(question=QUESTION), lmtrace.instrument, flush),
    ]


def main() -> None:
    from litellm_overhead import set_up_provider

    import lmtrace

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with sink() as address, tempfile.TemporaryDirectory() as folder:
        provider = set_up_provider(address)
        lmtrace.configure(store=folder)
        arms = arms_for(lambda: (provider.force_flush(), lmtrace.flush()))
        measure(arms, rounds=options.rounds, block=20, pause=0.001)
        print(f"\nDSPy {dspy.__version__}, an engine that answers at once, {len(arms[0].wall_ns)} calls an arm\n")
        print(table(arms[:3], arms[0], arms[1]))
        print()
        print(table(arms[3:], arms[3], arms[4]))


if __name__ == "__main__":
    main()
