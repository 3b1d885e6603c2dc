"""`history()`: the durable history, read with SQL."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

from lmtrace import _settings

if TYPE_CHECKING:
    from lmtrace_exporters import History


def history(path: str | PathLike[str] | None = None) -> History:
    """The recorded history, for SQL over the views `calls`, `messages`, `spans`, `runs`, `rollouts` and `costs`.

    Rows that this process has just recorded are included, and other processes may go on writing.

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
