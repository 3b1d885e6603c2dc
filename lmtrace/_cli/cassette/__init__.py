"""``lmtrace cassette …``: make, look at and tend the files that tests are replayed from."""

from __future__ import annotations

from lmtrace._cli._group import LazyGroup

command = LazyGroup(
    name="cassette",
    package=__name__,
    commands={
        "create": "Recorded calls as a cassette: a trace becomes an offline test.",
        "ls": "The calls in a cassette.",
        "stat": "What cassettes hold: calls, models, tokens, money.",
        "check": "Find damaged, edited and outdated cassettes.",
        "prune": "Take calls out of a cassette.",
        "merge": "One cassette of several.",
        "rekey": "Accept edited requests, and write the file as this version does.",
    },
    help="""Cassettes: recorded answers in a file, for `lmtrace.replay` and pytest.

    \b
    lmtrace cassette create --trace 4bf92f35 -o bug.cassette
    lmtrace cassette ls bug.cassette
    lmtrace cassette check tests
    """,
)
