"""What can be wrong with recordings, as part of lmtrace's one error tree.

LMTraceError
└── CassetteError               recordings cannot be read or written; the message names the file and the next step
    ├── CassetteVersionError    a newer lmtrace wrote the file
    ├── CassetteTamperedError   a request was edited: its key is not the one that stands beside it
    └── CassetteSecretError     what is to be written holds something that looks like a credential

`ReplayMiss`, a request without a recorded answer, is not here: it must not be caught as an ordinary error.
"""

from __future__ import annotations

from lmtrace._errors import LMTraceError


class CassetteError(LMTraceError):
    """Recordings cannot be read or written; the message names the file and the next step."""


class CassetteVersionError(CassetteError):
    """The file has a newer format than this lmtrace can read."""


class CassetteTamperedError(CassetteError):
    """A request in the file is not the one that was recorded."""


class CassetteSecretError(CassetteError):
    """What is to be written holds something that looks like a credential; nothing was written."""
