"""What all calls with one model and the same parameters have in common, worked out once.

A program asks with few combinations of model and parameters, and thousands of times with each. The span's name and first
attributes, the row's columns and the ends of the request key follow from the combination alone, and working them out costs
more than everything else at the start of a call. Parameters that are texts, numbers and switches are remembered by their
`repr`, which tells ``1`` from ``1.0`` and ``True``; those with anything inside are worked out for each call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lmtrace import _wire
from lmtrace._attributes import request_attributes, span_name
from lmtrace._data import LMRequest
from lmtrace._keys import frame
from lmtrace._redactor import hide_shapes
from lmtrace._rows import request_columns

_REMEMBERED: Final = 256
_LONGEST: Final = 1_000
"""Characters of parameters that are worth remembering: a longer text is content, and another one in each call."""

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


@dataclass(frozen=True, slots=True)
class Shape:
    """One combination of model and parameters."""

    span_name: str
    attributes: Mapping[str, Any]
    """Of the span at its start."""
    columns: Mapping[str, Any]
    """Of the row."""
    frame: tuple[bytes, bytes]
    """What stands before and after the messages in the canonical JSON of the key."""
    kwargs: bytes
    """The parameters as JSON, without the tools and without what is shaped like a key."""
    tools: bytes | None
    hides_key: bool
    """Whether something shaped like a key was removed from the parameters."""


_known: dict[tuple[Any, ...], Shape] = {}


def shape_of(request: LMRequest) -> Shape:
    """The shape of a request, remembered where that is safe."""
    kwargs = request.kwargs
    if not _SCALARS.issuperset(map(type, kwargs.values())):
        return _work_out(request)
    try:
        text = repr(kwargs)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return _work_out(request)
    key = (
        request.model,
        text,
        request.model_type,
        request.stream,
        request.provider,
        request.server_address,
        request.server_port,
    )
    shape = _known.get(key)
    if shape is None:
        shape = _work_out(request)
        if len(text) <= _LONGEST:
            _remember(key, shape)
    return shape


def _remember(key: tuple[Any, ...], shape: Shape) -> None:
    if len(_known) >= _REMEMBERED:
        _known.clear()  # a program with a parameter of its own for every call has nothing to remember
    _known[key] = shape


def _work_out(request: LMRequest) -> Shape:
    kwargs = dict(request.kwargs)
    tools = kwargs.pop("tools", None)
    text = _wire.dumps(kwargs)
    harmless = hide_shapes(text)
    return Shape(
        span_name=span_name(request),
        attributes=request_attributes(request),
        columns=request_columns(request),
        frame=frame(request),
        kwargs=harmless,
        tools=None if tools is None else _wire.dumps(tools),
        hides_key=harmless is not text,
    )
