"""Threads, executors and tasks of asyncio and trio: makes labels of `lmtrace._paths` follow what they start.

A session that records or replays calls `start`, and hands what it got to `stop`; the first one patches, and the last one puts
everything back. Between the two, ``lmtrace._paths.current()`` says which task asks: ``0.3.12``.
"""

from __future__ import annotations

from lmtrace.integrations.tasks._install import start, stop

__all__ = ["start", "stop"]
