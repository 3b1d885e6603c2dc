"""What was recorded, used again: `history()` reads it with SQL, `replay()` serves it instead of the provider's answers."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

from lmtrace import _settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmtrace_exporters import History
    from lmtrace_replay import Mode, Session
    from lmtrace_replay._matching import Order, Rollouts
    from lmtrace_replay._recording import Normaliser
    from lmtrace_replay._sources import Source


def history(path: str | PathLike[str] | None = None) -> History:
    """The recorded history, for SQL over its views.

    These are `calls`, `messages`, `spans`, `runs`, `rollouts`, `costs`, `candidates` and `examples`. Rows that this process has just recorded are included, and other processes may go on writing.

    Args:
        path: The store's folder; that of the current settings by default.

    Raises:
        SettingsError: no path was given and the store is off.
        StoreError: the store is of a newer major version or cannot be read.
    """
    from lmtrace_exporters import open_history

    store = _settings.current().store if path is None else path
    if store is None:
        from lmtrace._errors import SettingsError

        raise SettingsError("the store is off, so there is no history; pass a path or set `store`")
    return open_history(store)


def replay(
    source: Source = (),
    *,
    mode: Mode = "replay",
    rollouts: Rollouts = "exact",
    order: Order = "any",
    normalisers: Sequence[Normaliser] = (),
    timing: bool = False,
    sample: float = 1.0,
    store: bool | None = None,
) -> Session:
    """Recorded answers instead of the provider's, for the whole process, inside a ``with`` block.

        with lmtrace.replay("bug.cassette") as session:
            answer()
        print(session.calls, session.cost)

    Args:
        source: The path of a cassette, a store or a Parquet folder, or any iterable of recordings, history entries or rows.
        mode: ``replay``: only recordings answer, and a request without one is a `ReplayMiss`. ``record-missing``: the provider
            answers what is missing. ``rewrite``: the provider answers everything anew. ``verify``: recordings answer, and the
            provider is asked as well, to compare. ``live``: the provider answers. ``off``: as without this block. The modes
            that record write the cassette when the block ends without an error.
        rollouts: How rollout ids are compared: ``exact``, ``ordinal`` (the n-th id to come is the n-th recorded) or
            ``ignore``.
        order: ``strict`` to have requests come in the recorded order.
        normalisers: Functions that make texts equal (dates, ids, paths) before requests are compared; applied to recorded
            and live requests alike.
        timing: Whether streams keep their recorded rhythm.
        sample: Which share of the requests ``verify`` asks the provider for.
        store: Whether calls made meanwhile are written to the store, as served by replay; by default unless pytest runs
            a test.

    Raises:
        CassetteError: the source cannot be read.
        SettingsError: a mode does not exist, or the source cannot be written.
    """
    from lmtrace_replay import replay as opened

    return opened(
        source,
        mode=mode,
        rollouts=rollouts,
        order=order,
        normalisers=normalisers,
        timing=timing,
        sample=sample,
        store=store,
    )
