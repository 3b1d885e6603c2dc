"""Several cassettes become one."""

from __future__ import annotations

from lmtrace._data import LMOutput, LMRequest, LMResponse, LMTextPart
from lmtrace_replay._format import Header
from lmtrace_replay._merge import merged, merged_header
from lmtrace_replay._recording import Recording


def recording(text: str, answer: str = "b", path: str | None = None) -> Recording:
    return Recording(
        request=LMRequest(model="m", messages=[{"role": "user", "content": text}]),
        response=LMResponse(outputs=(LMOutput(parts=(LMTextPart(answer),)),)),
        path=path,
    )


def test_repeats_are_kept_and_doubles_are_not() -> None:
    """A call that two cassettes hold is there once; one that a cassette holds twice is there twice."""
    a, b, c = (recording(text) for text in "abc")
    assert merged([[a, a, b], [a, c, b, c]]) == [a, a, b, c, c]


def test_headers_agree_or_say_less() -> None:
    """The newest version of each package is kept, an adapter only if all have it."""
    one = Header(versions={"dspy": "3.4.1", "lmtrace": "0.1.0"}, adapter="ChatAdapter")
    two = Header(versions={"dspy": "3.10.0"}, adapter="JSONAdapter")
    assert merged_header([one, two]) == Header(versions={"dspy": "3.10.0", "lmtrace": "0.1.0"})
    assert merged_header([one, one]) == one
