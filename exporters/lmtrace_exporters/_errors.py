"""What can go wrong with a store, as part of lmtrace's one error tree.

LMTraceError
├── StoreError              the store could not take, keep or give back rows
│   └── StoreVersionError   a newer lmtrace wrote it
└── HistoryQueryError       the SQL asked of a history is wrong
    ├── QueryRefusedError   untrusted SQL that is not one SELECT over the views
    └── QueryLimitError     untrusted SQL that took too much time or memory
"""

from __future__ import annotations

from lmtrace._errors import LMTraceError


class StoreError(LMTraceError):
    """The store could not take, keep or give back rows; the message names the path and the remedy."""


class StoreVersionError(StoreError):
    """The store has a newer major format than this lmtrace can read; nothing in it was touched."""


class HistoryQueryError(LMTraceError):
    """A query on a history is wrong; the message names what is unknown and the nearest names that exist."""


class QueryRefusedError(HistoryQueryError):
    """Untrusted SQL is not one SELECT over the views; the message says what in it is not allowed."""


class QueryLimitError(HistoryQueryError):
    """Untrusted SQL took more time or memory than it may, or its answer is too large."""
