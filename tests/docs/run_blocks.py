"""Runs the Python blocks of one document in this process, in order, and prints what each printed as JSON."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback


def run(block: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(block, "<block>", "exec"), {"__name__": "__main__"})  # noqa: S102 - our own documents
        except Exception:
            traceback.print_exc(file=printed)
            printed.write("\n(the block failed)")
    return printed.getvalue()


if __name__ == "__main__":
    print(json.dumps([run(block) for block in json.load(sys.stdin)]))
