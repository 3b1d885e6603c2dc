"""Settings, flushing and figures of the process: the functions users call at the edges of a program."""

from __future__ import annotations

import time
from typing import Any

from lmtrace import _settings
from lmtrace._failures import failures

_flags: dict[str, Any] = {}


def configure(**settings: Any) -> None:
    """Set what the process records and where it goes; what is not given stays as it was.

    Takes effect for calls that begin afterwards. Everything already recorded is flushed first.

    Args:
        **settings: See `docs/settings.md` or ``lmtrace config``: `store`, `capture`, `content`, `otlp`, `otlp_protocol`,
            `otlp_headers`, `service_name`, `metrics`, `cost_attributes`, `compat`, `durability`, `redact`, `exporters`,
            `callbacks`, `disable_history`, `max_history_size`.

    Raises:
        UnknownOptionError: no setting has that name; the message has the nearest one.
        SettingsError: a value is not valid.
    """
    resolved = _settings.resolve({**_flags, **settings})
    _flags.update(settings)
    _settings.use(resolved)
    _drop_recorder()


def _drop_recorder() -> None:
    """Forget the recorder, so that the next call makes one; without having imported OpenTelemetry for nothing."""
    import sys

    if "lmtrace._recorder" not in sys.modules:
        return
    from lmtrace import _compose, _recorder

    before = _recorder.replace(None)
    if before is not None:
        _compose.close(before)


def flush(timeout: float = 30.0) -> bool:
    """Bring every finished call's row, span and metrics to where they go.

    Args:
        timeout: Seconds after which to give up.

    Returns:
        Whether everything got there in time.
    """
    deadline = time.monotonic() + timeout
    from lmtrace import _compose, _recorder

    recorder = _recorder._current
    return True if recorder is None else _compose.flush_all(recorder, deadline)


def shutdown() -> None:
    """Flush, close the store and forget the configuration. A later call starts afresh; rarely needed, exit does it."""
    flush(2.0)
    _drop_recorder()
    _flags.clear()
    _settings.use(None)


def stats() -> dict[str, Any]:
    """What lmtrace did in this process, and what went wrong.

    Returns:
        `failures`: count by kind; `last_failures`: the newest of each kind, without content; `exporters`: the figures
        of each exporter that has some, such as rows written, buffered and dropped by the store.
    """
    import sys

    exporters = {}
    module = sys.modules.get("lmtrace._recorder")
    recorder = module._current if module is not None else None
    for exporter in recorder.exporters if recorder is not None else ():
        figures = getattr(exporter, "stats", None)
        if callable(figures):
            exporters[type(exporter).__name__] = figures()
    return {"failures": failures.counts(), "last_failures": failures.last(), "exporters": exporters}
