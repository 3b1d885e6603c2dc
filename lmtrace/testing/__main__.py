"""``python -m lmtrace.testing``: a loopback provider to point a program at, until Ctrl-C."""

from __future__ import annotations

import argparse
import threading

from lmtrace.testing._provider._loopback import LoopbackProvider


def main(arguments: list[str] | None = None) -> None:
    """Serve, and print where."""
    parser = argparse.ArgumentParser(prog="python -m lmtrace.testing", description="A provider without a model.")
    parser.add_argument("--port", type=int, default=0, help="any free port by default")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds every answer takes")
    options = parser.parse_args(arguments)
    with LoopbackProvider(port=options.port, latency=options.latency) as provider:
        print(provider.url, flush=True)  # noqa: T201 - the one thing this program says
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
