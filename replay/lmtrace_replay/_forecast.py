"""What recording tests again will cost, told before it begins: what their recordings cost when they were made."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from lmtrace_replay._cassette import load
from lmtrace_replay._errors import CassetteError
from lmtrace_replay._plan import named_cassette


def forecast(items: Iterable[pytest.Item]) -> str | None:
    """One line on the cassettes of the tests; None when they have none."""
    from lmtrace._cli._text import plural, total_money

    paths = {path for item in items if (path := _path(item)) is not None and path.exists()}
    costs = [cost for path in sorted(paths) for cost in _costs(path)]
    if not costs:
        return None
    price = total_money(sum(cost for cost in costs if cost is not None), costs.count(None))
    return f"lmtrace: recording again asks the provider: {plural(len(costs), 'recorded call')} of these tests cost {price} last time"


def _path(item: pytest.Item) -> Path | None:
    if not isinstance(item, pytest.Function) or "lm_replay" not in item.fixturenames:
        return None
    try:
        from syrupy.location import PyTestLocation

        from lmtrace_replay._syrupy import CassetteExtension

        named = named_cassette(item)
        return named or Path(CassetteExtension.get_location(test_location=PyTestLocation(item), index=0))
    except (ImportError, pytest.UsageError):
        return None  # the test itself will say so


def _costs(path: Path) -> list[float | None]:
    try:
        recordings = load(path).recordings
    except CassetteError:
        return []  # the test itself will say so
    return [None if one.response is None else one.response.cost for one in recordings]
