"""What recording tests again will cost, told before it begins: what their recordings cost when they were made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from lmtrace_replay._cassette import load
from lmtrace_replay._errors import CassetteError
from lmtrace_replay._names import file_stem
from lmtrace_replay._plan import named_cassette


def forecast(items: Iterable[pytest.Item]) -> str | None:
    """One line on the cassettes of the tests; None when they have none."""
    return _told({path for item in items if (path := _path(item)) is not None})


def forecast_of_names(root: Path, nodeids: Iterable[str]) -> str | None:
    """The same for tests of which only the names are known; it does not know of cassettes that markers name."""
    return _told({path for nodeid in nodeids for path in _own_paths(root, nodeid)})


def _own_paths(root: Path, nodeid: str) -> Iterator[Path]:
    """Where the cassette of a test may be, whether another test's name differs from its by case only or not."""
    file, _, name = nodeid.partition("::")
    folder = (root / file).parent / "__snapshots__" / Path(file).stem
    for twin in (False, True):
        yield folder / f"{file_stem(name.replace('::', '.'), twin=twin)}.cassette"


def _told(found: Iterable[Path]) -> str | None:
    from lmtrace._cli._text import plural, total_money

    paths = {path for path in found if path.exists()}
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
