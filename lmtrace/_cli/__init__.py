"""The command ``lmtrace``.

Each command is a module of its own that is imported when it is run, so `lmtrace path` costs no DuckDB and `lmtrace --help`
costs nothing. Nothing in this package imports LiteLLM or DSPy, except the demo.

Exit codes: 0 fine, 1 a difference or nothing found, 2 wrong usage, 3 something in the environment is not as needed.
"""

from __future__ import annotations

import sys

from lmtrace._cli._group import LazyGroup

__all__ = ["cli", "main"]

cli = LazyGroup(
    name="lmtrace",
    package=__name__,
    commands={
        "demo": "First LM calls as a trace, as rows and as money; no key, no network.",
        "run": "Record an unmodified program: lmtrace run -- python app.py",
        "ls": "The newest calls, or runs.",
        "show": "One call, trace or run, whole.",
        "tail": "The newest calls, and with -f those that follow.",
        "search": "Calls whose prompt, answer or error holds a text.",
        "cost": "Money and tokens, by model, prompt, run, day …",
        "candidates": "What a run evaluated, by score, and what each candidate cost.",
        "diff": "Two runs, calls, rollouts or candidates, word by word, and what the difference cost.",
        "rollouts": "The answers to a request under several rollout ids, side by side.",
        "sql": "Ask the history in SQL.",
        "cassette": "Recorded answers in files, for tests: create, ls, stat, check, prune, merge, rekey.",
        "replay": "Run a program offline, with recorded answers: lmtrace replay bug.cassette -- python app.py",
        "why": "Why a request had no recorded answer.",
        "export": "Write the history to DuckDB, Parquet, JSON lines or CSV, or send it by OTLP.",
        "import": "Add exported rows to a store, each once.",
        "compact": "Turn finished journals into Parquet now.",
        "gc": "Forget old history, by age or size.",
        "backup": "Copy the store while programs write to it.",
        "verify": "Compare everything in the store with its checksum.",
        "rebuild-index": "Make a lost or damaged catalog again.",
        "cache": "The answers given again without asking a provider.",
        "doctor": "Check the store, the settings and what is installed.",
        "config": "Each setting, its value and where it comes from.",
        "path": "Where the store is.",
        "completion": "Completion of this command for your shell.",
    },
    help="""Every LM call as a span, a durable row and a recording.

    \b
    lmtrace demo                         see it work, offline
    lmtrace run -- python app.py         record a program as it is
    lmtrace cost --by model --since 7d   what it cost
    """,
)


def main() -> None:
    """Run the command of this process' arguments; does not return."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # an ASCII terminal gets escapes, not a traceback
    cli(prog_name="lmtrace")
