"""What the Python processes of a run said about themselves, and so why nothing was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Processes:
    """The status of each Python process by its id: the values said for each key."""

    said: Mapping[int, Mapping[str, Sequence[str]]]

    @classmethod
    def read(cls, folder: Path) -> Processes:
        """What was said in a status folder."""
        return cls({int(path.name): _parse(path) for path in sorted(folder.iterdir()) if path.name.isdigit()})

    @property
    def pids(self) -> list[int]:
        """The ids of the processes."""
        return list(self.said)

    def all(self, key: str) -> list[str]:
        """Every value said for `key`, once."""
        return list(dict.fromkeys(value for lines in self.said.values() for value in lines.get(key, ())))

    def why_nothing(self) -> str:
        """Why a run has no calls, with what to do about it."""
        if not self.said:
            return (
                "the command started no Python that looks at PYTHONPATH; if it is Python, do without -I, -E and -S, "
                "and call lmtrace.instrument() in the program instead"
            )
        if self.all("failed"):
            return f"recording failed ({'; '.join(self.all('failed'))}); `lmtrace doctor` says more"
        if self.all("ready"):
            return self._why_ready()
        if self.all("broken"):
            return f"lmtrace could not be started in it ({self.all('broken')[0]})"
        return f"{self.all('python')[0]} has no lmtrace; install it there: pip install lmtrace"

    def _why_ready(self) -> str:
        if "True" in self.all("litellm"):
            return "litellm was imported, but no call through it or lmtrace.LM was made"
        if self.all("ended"):
            return "litellm was never imported, and lmtrace.LM never called"
        return "the program was ended before it made a call"


def _parse(path: Path) -> Mapping[str, Sequence[str]]:
    lines: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(" ")
        lines.setdefault(key, []).append(value)
    return lines
