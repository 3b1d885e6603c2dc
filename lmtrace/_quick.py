"""Constructors of frozen dataclasses for the path of a call.

A frozen dataclass fills itself through `object.__setattr__`, at three times the price of an assignment, and a call makes
half a dozen such objects of up to twenty fields. `quick` gives a constructor that fills a mutable twin of the same
layout and then makes it an object of the frozen class; what it returns is in no way different.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final, TypeVar

from lmtrace._data import LMOutput, LMRequest, LMResponse, LMTextPart, LMUsage
from lmtrace._entry import HistoryEntry
from lmtrace._exporter import Record

T = TypeVar("T")


def quick(cls: type[T]) -> type[T]:
    """What makes objects of `cls`, a frozen dataclass with slots, from the same arguments and with the same checks.

    To whoever reads types it is the class itself; it is only to be called.
    """
    check = cls.__dict__.get("__post_init__")

    def freeze(self: Any) -> None:
        self.__class__ = cls

    def freeze_checked(self: Any) -> None:
        self.__class__ = cls
        check(self)  # type: ignore[misc]  # only where there is one

    return dataclasses.make_dataclass(
        cls.__name__,
        [_copied(item) for item in dataclasses.fields(cls)],  # type: ignore[arg-type]
        bases=cls.__bases__,
        namespace={**_concrete(cls), "__post_init__": freeze if check is None else freeze_checked},
        slots=True,
        eq=False,
        repr=False,
    )


def _copied(item: dataclasses.Field[Any]) -> tuple[str, Any, Any]:
    return item.name, item.type, dataclasses.field(**{name: getattr(item, name) for name in _OPTIONS})


_OPTIONS = ("default", "default_factory", "kw_only")


def _concrete(cls: type) -> dict[str, Any]:
    """The methods without which a class of these bases cannot be instantiated."""
    names = {name for base in cls.__bases__ for name in getattr(base, "__abstractmethods__", ())}
    return {name: cls.__dict__[name] for name in names}


new_request: Final = quick(LMRequest)
new_response: Final = quick(LMResponse)
new_output: Final = quick(LMOutput)
new_text: Final = quick(LMTextPart)
new_usage: Final = quick(LMUsage)
new_entry: Final = quick(HistoryEntry)
new_record: Final = quick(Record)
