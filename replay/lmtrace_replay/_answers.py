"""What a recording gives to whoever asked: an answer of its own, which may be changed without changing the recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any, Final

from lmtrace._data import LMOutput, LMRequest, LMResponse, LMTextPart, LMUsage
from lmtrace._quick import new_output, new_response
from lmtrace_replay._raised import public_error
from lmtrace_replay._recording import Recording

SERVED: Final = {"served_by": "replay"}


def answer(recording: Recording, request: LMRequest) -> LMResponse:
    """The recorded answer, flagged as replayed; cost and usage are those of the recorded call.

    Raises:
        LMError: what was recorded is an error.
    """
    if recording.error is not None or recording.response is None:
        raise error_of(recording, request)
    return flagged(recording.response)


def error_of(recording: Recording, request: LMRequest) -> Exception:
    """The recorded error as the public exception."""
    if recording.error is None:
        raise ValueError("the recording holds neither an answer nor an error")
    return public_error(recording.error, request)


def flagged(response: LMResponse) -> LMResponse:
    """A copy of a recorded answer that says where it came from. Texts are shared, everything mutable is not."""
    metadata = response.metadata
    return new_response(
        model=response.model,
        outputs=[_output(output) for output in response.outputs],
        usage=None if response.usage is None else _usage(response.usage),
        cost=response.cost,
        response_id=response.response_id,
        provider_data=_copied(response.provider_data),
        metadata=dict(SERVED) if metadata is None else {**_copied(metadata), **SERVED},
    )


def unflagged(response: LMResponse) -> LMResponse:
    """A served answer as it was recorded."""
    metadata = {name: value for name, value in (response.metadata or {}).items() if name not in SERVED}
    return replace(response, metadata=metadata or None)


def _output(output: LMOutput) -> LMOutput:
    if output.provider_data is None and output.logprobs is None and output.metadata is None:
        parts = output.parts
        if len(parts) == 1 and type(part := parts[0]) is LMTextPart and part.provider_data is None:
            return output if type(parts) is tuple else replace(output, parts=(part,))
    return new_output(
        parts=tuple(_part(part) for part in output.parts),
        finish_reason=output.finish_reason,
        truncated=output.truncated,
        provider_data=_copied(output.provider_data),
        logprobs=_copied(output.logprobs),
        metadata=_copied(output.metadata),
    )


def _part(part: Any) -> Any:
    if type(part) is LMTextPart and part.provider_data is None:
        return part
    kind: Any = type(part)
    return kind(**{name: _copied(getattr(part, name)) for name in _names(kind)})


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def _usage(usage: LMUsage) -> LMUsage:
    if usage.details is None and usage.metadata is None:
        return usage
    return replace(usage, details=_copied(usage.details), metadata=_copied(usage.metadata))


def _copied(value: Any) -> Any:
    """A copy of plain data, several times quicker than `copy.deepcopy`."""
    kind = type(value)
    if kind is dict:
        return {name: _copied(item) if type(item) in _CONTAINERS else item for name, item in value.items()}
    if kind is list and value and type(value[0]) is float and type(value[-1]) is float:  # a vector
        return value.copy()
    if kind is list or kind is tuple:
        return kind(_copied(item) if type(item) in _CONTAINERS else item for item in value)
    return dict(value) if isinstance(value, Mapping) else value


_CONTAINERS: Final = frozenset({dict, list, tuple})
