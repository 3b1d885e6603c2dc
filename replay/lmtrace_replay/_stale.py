"""Outdated recordings: the place that asked is the same, what it asked is not. One summary of what has changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lmtrace._data import LMRequest
from lmtrace_replay._desk import Stale
from lmtrace_replay._format import Header
from lmtrace_replay._header import current_header
from lmtrace_replay._recording import Recording


def summary(stale: Sequence[Stale], header: Header | None = None) -> str | None:
    """What to know about recordings whose place asks something else now; None when there are none.

    Args:
        stale: Those recordings, and what is asked instead.
        header: What they were made with.
    """
    if not stale:
        return None
    from lmtrace._cli._text import money

    one = len(stale) == 1
    changed = ", ".join(_changes(stale, header)) if header is not None else ""
    answers = [one.recorded.response for one in stale]
    cost = sum(response.cost or 0.0 for response in answers if response is not None)
    return (
        f"{len(stale)} {'recording is' if one else 'recordings are'} outdated: the same place in the program asked something "
        f"else when {'it was' if one else 'they were'} made"
        + (f" (since then: {changed})" if changed else "")
        + (f". Recording {'it' if one else 'them'} again cost {money(cost)} last time." if cost else ".")
    )


def _changes(stale: Sequence[Stale], then: Header) -> Iterator[str]:
    now = current_header([Recording(request=one.request) for one in stale])
    for name, version in then.versions.items():
        if now.versions.get(name, version) != version:
            yield f"{name} {version} → {now.versions[name]}"
    if then.adapter != now.adapter:
        yield f"adapter {then.adapter} → {now.adapter}"
    models = [sorted({request.model for request in requests}) for requests in _requests(stale)]
    if models[0] != models[1]:
        yield f"model {', '.join(models[0])} → {', '.join(models[1])}"


def _requests(stale: Sequence[Stale]) -> tuple[list[LMRequest], list[LMRequest]]:
    return [one.recorded.request for one in stale], [one.request for one in stale]
