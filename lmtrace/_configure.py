"""Settings, flushing and figures of the process: the functions users call at the edges of a program."""

from __future__ import annotations

import sys
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
            `callbacks`, `disable_history`, `max_history_size`, `cache`, `cache_ttl`, `cache_max_bytes`,
            `cache_memory_bytes`, `cache_memory_entries`.

    Raises:
        UnknownOptionError: no setting has that name; the message has the nearest one.
        SettingsError: a value is not valid, or `otlp` cannot be set up.
    """
    resolved = _settings.resolve({**_flags, **settings})
    if resolved.otlp is not None:  # now, and not with the first call: the application's own spans may come before it
        from lmtrace import _compose

        _compose.set_up_telemetry(resolved)
    _flags.update(settings)
    _drop_recorder(resolved)


def _drop_recorder(settings: _settings.Settings | None) -> None:
    """Change the settings and forget the recorder, so that the next call makes one."""
    recorder = sys.modules.get("lmtrace._recorder")
    if recorder is None:  # nothing was recorded yet, and OpenTelemetry need not be imported
        _settings.use(settings)
        return
    before = recorder.forget(settings)
    if before is not None:
        from lmtrace import _compose

        _compose.retire(before)


def flush(timeout: float = 30.0) -> bool:
    """Bring every finished call's row, span and metrics to where they go.

    Args:
        timeout: Seconds after which to give up.

    Returns:
        Whether everything got there in time.
    """
    compose, recorder = sys.modules.get("lmtrace._compose"), sys.modules.get("lmtrace._recorder")
    if compose is None or recorder is None:  # nothing was recorded
        return True
    done: bool = compose.flush_all(recorder._current, time.monotonic() + timeout)
    return done


def shutdown() -> None:
    """Flush, close the store and forget the configuration. A later call starts afresh; rarely needed, exit does it."""
    flush(2.0)
    _flags.clear()
    _drop_recorder(None)
    caching = sys.modules.get("lmtrace._caching")
    if caching is not None:
        caching.drop()


def stats() -> dict[str, Any]:
    """What lmtrace did in this process, and what went wrong.

    Returns:
        `failures`: count by kind; `last_failures`: the newest of each kind, without content; `exporters`: the figures
        of each exporter that has some, such as rows written, buffered and dropped by the store, or items sent by OTLP;
        `cache`: hits and misses of the cache, what its memory holds, and what the store's index took; empty while no call
        has asked it.
    """
    compose, module = sys.modules.get("lmtrace._compose"), sys.modules.get("lmtrace._recorder")
    recorder = module._current if module is not None else None
    exporters = compose.figures(recorder) if compose is not None and recorder is not None else {}
    caching = sys.modules.get("lmtrace._caching")
    return {
        "failures": failures.counts(),
        "last_failures": failures.last(),
        "exporters": exporters,
        "cache": {} if caching is None else caching.stats(),
    }
