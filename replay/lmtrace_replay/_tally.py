"""What happened in all tests of a session, added up over the processes of pytest-xdist, as one line for the summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts of calls, in one test or in many."""

    replayed: int = 0
    recorded: int = 0
    """Answers of a provider that were written to a cassette."""
    live: int = 0
    """Answers of a provider that were not."""
    missed: int = 0
    """Requests like no recording."""
    stale: int = 0
    """Requests whose recording was made for another prompt, model or parameter."""
    unused: int = 0
    """Recordings nobody asked for."""
    cancelled: int = 0
    """Requests that the program cancelled while it was recorded: they have no answer."""
    saved: float = 0.0
    """US dollars the replayed answers cost when they were recorded."""
    unrecorded: int = 0
    """Tests with a miss and no cassette."""
    outdated: int = 0
    """Tests with a miss and a cassette."""
    again: float = 0.0
    """US dollars the recordings of those cost when they were made."""
    refused: dict[str, int] = field(default_factory=dict)
    """Connections that were refused, by ``host:port``."""

    def add(self, other: Tally) -> None:
        for item in fields(self):
            if item.name != "refused":
                setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))
        for place, count in other.refused.items():
            self.refused[place] = self.refused.get(place, 0) + count

    def to_wire(self) -> dict[str, Any]:
        """Plain data, for the channel of pytest-xdist."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Tally:
        return cls(**wire)

    def lines(self) -> Iterator[str]:
        """What the summary of a session says: nothing where nothing happened."""
        from lmtrace._cli._text import money

        counts = ((name, getattr(self, name)) for name in ("replayed", "recorded", "live", "missed", "stale", "unused"))
        said = [f"{count} {name}" for name, count in counts if count]
        if self.saved:
            said.append(f"{money(self.saved)} saved")
        if said:
            yield f"lmtrace: {', '.join(said)}"
        if self.cancelled:
            calls = "1 call was" if self.cancelled == 1 else f"{self.cancelled:,} calls were"
            yield f"lmtrace: {calls} cancelled by the program and not recorded: a replay that waits for an answer has none"
        if self.unrecorded:
            yield f"lmtrace: {_tests(self.unrecorded)} no cassette yet: pytest --last-failed --lmtrace-mode=record-missing"
        if self.outdated:
            price = f"cost {money(self.again)} last time" if self.again else "has an unknown price"
            yield f"lmtrace: {_tests(self.outdated)} an outdated cassette; recording again {price}: pytest --last-failed --lmtrace-mode=rewrite"
        if self.refused:
            places = ", ".join(f"{place} ({count}x)" for place, count in sorted(self.refused.items()))
            yield f"lmtrace: connections refused: {places}"


def _tests(count: int) -> str:
    return "1 test has" if count == 1 else f"{count:,} tests have"
