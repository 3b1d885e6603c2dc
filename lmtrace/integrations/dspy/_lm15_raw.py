"""What the provider sent, as lm15 keeps it beside each response: recorded without saying the answer a second time.

The texts of the answer are in its parts already. Where the raw data repeats one of them, the number of the part stands in its
place, so rows are not twice as long, and a change of an answer is one change in a cassette.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

RAW: Final = "provider_data"
"""The name lm15 has for it."""

SHORT: Final = "short_provider_data"
"""The name of data with numbers of parts in it."""

_PART: Final = "lm15.part"
_LONG: Final = 24
"""Characters of a text that is worth a number."""


def kept(raw: Any, texts: Sequence[str | None]) -> dict[str, Any]:
    """The raw data as it is recorded, under its name; nothing where there is none.

    Args:
        raw: What the provider sent.
        texts: The text of each part of the answer.
    """
    if raw is None:
        return {}
    places = {text: index for index, text in enumerate(texts) if text is not None and len(text) >= _LONG}
    try:
        return {SHORT: _shortened(raw, places)} if places else {RAW: raw}
    except _TakenError:
        return {RAW: raw}


def given(data: dict[str, Any], texts: Sequence[str | None]) -> dict[str, Any]:
    """The provider data of an output with the raw data whole again."""
    if SHORT not in data:
        return data
    return {**{name: value for name, value in data.items() if name != SHORT}, RAW: _whole(data[SHORT], texts)}


class _TakenError(Exception):
    """The provider has a field of the name that stands for parts."""


def _shortened(value: Any, places: Mapping[str, int]) -> Any:
    if isinstance(value, str):
        index = places.get(value)
        return value if index is None else {_PART: index}
    if isinstance(value, list):
        return [_shortened(item, places) for item in value]
    if not isinstance(value, dict):
        return value
    if _PART in value:
        raise _TakenError
    return {name: _shortened(item, places) for name, item in value.items()}


def _whole(value: Any, texts: Sequence[str | None]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_PART}:
            return texts[value[_PART]] if value[_PART] < len(texts) else None
        return {name: _whole(item, texts) for name, item in value.items()}
    return [_whole(item, texts) for item in value] if isinstance(value, list) else value
