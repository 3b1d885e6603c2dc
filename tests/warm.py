"""Programs that need LiteLLM or DSPy, without the seconds that importing it takes in every new process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

SERVER = Path(__file__).with_name("warm_server.py")


class Warm:
    """Runs programs as `subprocess.run` does, in forks of one process that is started when it is first needed."""

    def __init__(self, modules: str, unheard: str = "ignore::DeprecationWarning") -> None:
        self._command = [sys.executable, "-W", unheard, SERVER, modules]
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, *words: str | Path, cwd: Path, environ: Mapping[str, str] | None = None, typed: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python *words``; the environment is this process' own when none is given."""
        order = {"words": [*map(str, words)], "cwd": str(cwd), "environ": dict(environ or os.environ), "input": typed}
        try:
            done = json.loads(self._ask(json.dumps(order)))
        except BaseException:  # a time limit, say: the next program gets another server
            self.stop()
            raise
        return subprocess.CompletedProcess(words, done["status"], done["stdout"], done["stderr"])

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ask(self, order: str) -> str:
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(order + "\n")
        process.stdin.flush()
        return process.stdout.readline()

    def _start(self) -> subprocess.Popen[str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("LMTRACE_", "OTEL_"))}
        self._process = subprocess.Popen(
            self._command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self._process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
