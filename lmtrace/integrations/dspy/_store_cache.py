"""The store's cache in the place of DSPy's own: what ``instrument(cache=True)`` turns on.

A call that may be answered from a cache asks the one that `lmtrace.LM` asks, under the same keys: whichever engine or version
of DSPy made an answer, the others get it, and nothing is pickled. DSPy's cache is set aside for those calls only; what it
keeps for functions of the program's own, and for LMs this package cannot tell apart, stays its business.
"""

from __future__ import annotations

from typing import Any

from lmtrace import _caching
from lmtrace._backend import Backend
from lmtrace._data import LMRequest, LMResponse

is_on = False
"""Whether calls are answered from the store."""


class StoreCache:
    """Stands where the server of a session would: hands out the cache with the real thing behind it.

    Args:
        owner: A program's own engine, whose answers are kept apart from everybody else's; None for DSPy's own engines.
    """

    keeps_rows = True

    def __init__(self, owner: Any = None) -> None:
        self._owner = owner

    def serve(self, backend: Backend) -> Backend:
        """The backend to ask instead of `backend`."""
        from lmtrace._compose import cached

        return cached(backend, self._owner)

    def finished(self, entry: object, chunks: object) -> None:
        """The cache keeps answers when they come, not when they are recorded."""


def cache_for(lm: Any, request: LMRequest) -> StoreCache | None:
    """Where the answer to a call is kept; None for one that wants no cache, or whose cache is DSPy's own."""
    if is_working() and request.metadata.get("cache"):
        return StoreCache(_own_engine(lm))
    return None


def is_working() -> bool:
    """Whether calls are answered from the store, and the settings do not forbid it."""
    return is_on and _caching.current() is not None


def wishes(lm: Any, *, cache: bool) -> dict[str, Any]:
    """What a request says of caches: the name makes its row one that the store's index can be made of again."""
    if not (cache and is_working()):
        return {"cache": cache}
    return {"cache": True, "cache_name": _caching.name_of(_own_engine(lm))}


def _own_engine(lm: Any) -> Any:
    engine = getattr(lm, "_engine_spec", None)
    return None if isinstance(engine, str) else engine


def as_hit(response: LMResponse, answer: Any) -> Any:
    """DSPy's object for an answer, marked as DSPy marks those out of its cache: nothing was spent on it."""
    if response.cache_hit:
        object.__setattr__(answer, "cache_hit", True)  # classes of LiteLLM's refuse attributes they do not know
        answer.usage = {}
    return answer
