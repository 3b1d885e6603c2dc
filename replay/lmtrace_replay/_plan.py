"""How one test is replayed: command line before marker before ini file, checked before the test runs."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from lmtrace_replay._desk import MODES, RECORDING, Mode

if TYPE_CHECKING:
    from lmtrace_replay._matching import Order, Rollouts
    from lmtrace_replay._recording import Normaliser


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the marker, the command line and the ini file say together."""

    mode: Mode = "replay"
    cassette: Path | None = None
    """A file of the user's choice; None for the test's own, which syrupy looks after."""
    rollouts: Rollouts = "exact"
    order: Order = "any"
    allow: tuple[str, ...] = ()
    """Hosts that may be reached."""
    normalisers: tuple[Normaliser, ...] = ()

    @property
    def records(self) -> bool:
        return self.mode in RECORDING

    @property
    def is_guarded(self) -> bool:
        """Whether connections are refused."""
        return self.mode == "replay"


def plan_of(item: pytest.Item) -> Plan:
    """The plan of a test.

    Raises:
        pytest.UsageError: an option does not exist or its value makes no sense.
    """
    config = item.config
    given = _marked(item)
    asked = config.getoption("lmtrace_mode")
    mode = _one_of("mode", asked or given.get("mode") or config.getini("lmtrace_mode"), MODES)
    if mode in RECORDING and not asked and in_ci():
        raise pytest.UsageError(
            f"lmtrace mode {mode!r} comes from a marker or an ini file, and CI is set: nothing is recorded there unless the "
            f"command line says so (pytest --lmtrace-mode={mode})"
        )
    rollouts = given.get("rollouts") or config.getini("lmtrace_rollouts")
    order = given.get("order") or config.getini("lmtrace_order")
    return Plan(
        mode=cast("Mode", mode),
        cassette=named_cassette(item),
        rollouts=cast("Rollouts", _one_of("rollouts", rollouts, ("exact", "ordinal", "ignore"))),
        order=cast("Order", _one_of("order", order, ("any", "strict"))),
        allow=(
            *_texts("allow", given.get("allow", ())),
            *config.getini("lmtrace_allow"),
            *config.getoption("lmtrace_allow"),
        ),
        normalisers=(*_callables(given.get("normalisers", ())), *_callables(config.getini("lmtrace_normalisers"))),
    )


def in_ci(environ: Mapping[str, str] = os.environ) -> bool:
    return environ.get("CI", "").lower() not in ("", "0", "false", "no")


_ARGUMENTS: Final = ("cassette", "mode", "rollouts", "order", "allow", "normalisers")


def _marked(item: pytest.Item) -> dict[str, Any]:
    """The arguments of all markers of a test; the nearest marker wins."""
    given: dict[str, Any] = {}
    for marker in reversed(list(item.iter_markers("lmtrace"))):
        if len(marker.args) > 1:
            raise pytest.UsageError("@pytest.mark.lmtrace takes one positional argument, the name of a cassette")
        for name in marker.kwargs:
            if name not in _ARGUMENTS:
                near = difflib.get_close_matches(name, _ARGUMENTS, 1, 0.0)[0]
                raise pytest.UsageError(f"@pytest.mark.lmtrace has no argument {name!r}; did you mean {near!r}?")
        given |= {**dict(zip(_ARGUMENTS, marker.args, strict=False)), **marker.kwargs}
    return given


def _one_of(name: str, value: Any, known: Sequence[str]) -> str:
    if value not in known:
        raise pytest.UsageError(f"lmtrace {name} is one of {', '.join(known)}, not {value!r}")
    return str(value)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else tuple(value)
    if not all(isinstance(text, str) for text in texts):
        raise pytest.UsageError(f"lmtrace {name} takes texts, not {value!r}")
    return texts


def _callables(value: Any) -> tuple[Normaliser, ...]:
    from lmtrace_replay._patterns import normaliser

    given = (value,) if isinstance(value, str) or callable(value) else tuple(value)
    try:
        return tuple(normaliser(one) if isinstance(one, str) else one for one in given)
    except ValueError as error:
        raise pytest.UsageError(f"lmtrace normalisers: {error}") from error


def named_cassette(item: pytest.Item) -> Path | None:
    """The cassette that a test's marker names, a path beside the test's file; None when it names none.

    Raises:
        pytest.UsageError: it is outside of the project, or no path at all.
    """
    name = _marked(item).get("cassette")
    if name is None:
        return None
    if not isinstance(name, str) or not name or "\0" in name:
        raise pytest.UsageError(f"the cassette of @pytest.mark.lmtrace is a path beside the test's file, not {name!r}")
    path = (item.path.parent / (name if name.endswith(".cassette") else f"{name}.cassette")).resolve()
    if not path.is_relative_to(item.config.rootpath.resolve()):
        raise pytest.UsageError(f"the cassette {name!r} is outside of the project {item.config.rootpath}")
    return path
