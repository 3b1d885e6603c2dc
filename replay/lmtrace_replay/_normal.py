"""Texts made equal before requests are compared: the user's normalisers, for stored and live requests alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lmtrace._data import LMRequest


def normalised(request: LMRequest, normalisers: Sequence[Callable[[str], str]]) -> LMRequest:
    """`request` with every text in it (names of parameters and fields are none) passed through all normalisers."""

    def walked(value: Any) -> Any:
        if isinstance(value, str):
            for normalise in normalisers:
                value = normalise(value)
            return value
        if isinstance(value, (list, tuple)):
            return [walked(item) for item in value]
        if isinstance(value, dict):
            return {name: walked(item) for name, item in value.items()}
        return value

    return replace(
        request,
        messages=walked(request.messages),
        prompt=walked(request.prompt),
        kwargs={name: walked(value) for name, value in request.kwargs.items()},
    )
