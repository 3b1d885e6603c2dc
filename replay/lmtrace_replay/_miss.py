"""A request that has no recorded answer: what is known about it, and the exception that says so.

`ReplayMiss` is a `BaseException` on purpose. An ordinary exception becomes a score of 0.0 in `dspy.Evaluate` and a retried
connection error in LiteLLM; a replay that cannot answer must end the test, as a failed assertion does. Because even a bare
``except:`` can swallow it, every miss is also kept in the session's `Ledger` and raised again at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Reason = Literal["no cassette", "exhausted", "prompt", "parameters", "model", "rollout", "error", "order"]
"""Why nothing recorded answers a request: nothing was recorded at all, everything for it has been served, that part of the
request differs from what was recorded, the recording itself cannot be served, or something else was next in the strict
order."""

REASONS: tuple[str, ...] = get_args(Reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A field in which a request and a recording differ, both as short texts; None where it is not given."""

    name: str
    recorded: str | None = None
    asked: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The recording most like a request, and how the two differ."""

    number: int
    """Its position in the source, from 1."""
    model: str
    asked: str
    """The end of its conversation, on one line."""
    scope: str | None = None
    path: str | None = None
    rollout: str | None = None
    differences: tuple[Difference, ...] = ()
    """Model, rollout and parameters that differ."""
    message: int | None = None
    """The first message that differs, from 1; None when all are equal."""
    role: str | None = None
    diff: str = ""
    """That message as a word diff: ``[-recorded-]{+asked+}``, cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """Why a request could not be answered from recordings. Texts in it are free of known secrets."""

    reason: Reason
    key: str
    """The key of the request."""
    model: str
    model_type: str
    asked: str
    """The end of its conversation, on one line."""
    rollout: str | None = None
    where: str | None = None
    """Where the recordings came from: a cassette's path, usually."""
    recorded: int = 0
    """How many recordings there are."""
    scope: str | None = None
    path: str | None = None
    """The logical path of the task that asked."""
    nearest: Nearest | None = None
    cause: str | None = None
    """What the difference probably comes from, in words."""
    fix: str = ""
    """What to do about it: a command, usually."""

    def to_wire(self) -> dict[str, Any]:
        """The JSON form: every field that says something."""
        return _without_empty(asdict(self))

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Miss:
        """The miss a JSON form describes; fields of a newer version are left out.

        Raises:
            ValueError: a field is missing, or one has a value that makes no sense.
        """
        try:
            given = _known(cls, wire)
            if given.get("reason") not in REASONS:
                raise ValueError(f"unknown reason {given.get('reason')!r}")
            if "nearest" in given:
                near = _known(Nearest, given["nearest"])
                near["differences"] = tuple(
                    Difference(**_known(Difference, one)) for one in near.get("differences", ())
                )
                given["nearest"] = Nearest(**near)
            return cls(**given)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"this is no miss: {error}") from None


def _known(cls: Any, wire: Mapping[str, Any]) -> dict[str, Any]:
    names = {item.name for item in fields(cls)}
    return {name: value for name, value in wire.items() if name in names}


def _without_empty(wire: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_empty(value) if isinstance(value, dict) else value
        for name, value in wire.items()
        if value not in (None, (), "")
    }


class ReplayMiss(BaseException):
    """A request under replay has no recorded answer; the message is the report of all misses known, the first first.

    Args:
        miss: The first one.
        *more: Those that followed.
    """

    def __init__(self, miss: Miss, *more: Miss) -> None:
        super().__init__(miss, *more)
        self.miss = miss
        """The first miss."""
        self.misses = (miss, *more)
        """All of them, in order."""

    def __str__(self) -> str:
        from lmtrace_replay._report import report

        return report(self.misses)


ReplayMiss.__module__ = "lmtrace_replay"  # where users import it from: tracebacks and test reports begin with it
