"""LiteLLM's pydantic objects as plain data, and back, exactly.

`model_dump` costs 20 µs for a small answer and the constructors of LiteLLM's classes rewrite what they are given, so both
ways are done here on the three attributes that make up a pydantic object: ``__dict__``, ``__pydantic_extra__`` and
``__pydantic_fields_set__``. The rule that must hold: an object made by `build` from `plain` data dumps as the original
does. Nothing here imports LiteLLM or pydantic; the classes come with the objects.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, Union, get_args, get_origin

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


@dataclass(frozen=True, slots=True)
class Blank:
    """What an object of a class holds before anybody has put anything into it."""

    defaults: dict[str, Any]
    """Everything in ``__dict__``."""

    nulls: frozenset[str]
    """Fields that the constructor itself sets to None: there, None says nothing."""

    extra: dict[str, None]
    """Those among them that the class does not declare."""


@cache
def blank(cls: Any) -> Blank:
    """The blank state of a pydantic class, learnt from an object made without arguments when the class allows that.

    LiteLLM's constructors delete some unset fields and set others, which the fields alone do not tell.
    """
    try:
        made = cls()
    except Exception:  # required fields: nothing is set that nobody gave
        fields = {name: field for name, field in cls.model_fields.items() if not field.is_required()}
        defaults = {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
        return Blank(_shareable(defaults), frozenset(), {})
    entries = {**made.__dict__, **(made.__pydantic_extra__ or {})}
    nulls = {name for name in made.__pydantic_fields_set__ if name in entries and entries[name] is None}
    defaults = {name: value for name, value in made.__dict__.items() if name not in made.__pydantic_fields_set__}
    defaults |= {name: None for name in nulls if name in cls.model_fields}
    return Blank(_shareable(defaults), frozenset(nulls), {name: None for name in nulls if name not in cls.model_fields})


def _shareable(state: Mapping[str, Any]) -> dict[str, Any]:
    """The immutable entries of a state; mutable ones must not be shared between objects."""
    return {name: value for name, value in state.items() if type(value) in _SCALARS and name[0] != "_"}


def is_model(value: Any) -> bool:
    """Whether `value` is a pydantic object."""
    return hasattr(type(value), "__pydantic_fields_set__") or hasattr(value, "__pydantic_fields_set__")


def plain(value: Any) -> Any:
    """`value` with every pydantic object in it turned into a dictionary; fields that say nothing are left out."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is dict:
        return {name: item if type(item) in _SCALARS else plain(item) for name, item in value.items()}
    if kind is list or kind is tuple:
        return kind(item if type(item) in _SCALARS else plain(item) for item in value)
    if is_model(value):
        return fields_of(value)
    return value


def fields_of(obj: Any) -> dict[str, Any]:
    """What sets a pydantic object apart from a blank one of its class."""
    given = obj.__pydantic_fields_set__
    cls: Any = type(obj)
    state = blank(cls)
    nulls = state.nulls
    found: dict[str, Any] = {}
    for name, value in obj.__dict__.items():
        if value is None:
            if name in given and name not in nulls:
                found[name] = None
        elif name in given or (name[0] != "_" and state.defaults.get(name) != value):
            found[name] = value if type(value) in _SCALARS else plain(value)
    for name, value in (obj.__pydantic_extra__ or {}).items():
        if value is not None or name not in nulls:
            found[name] = value if type(value) in _SCALARS else plain(value)
    return found


def entries_of(obj: Any) -> list[tuple[str, Any]]:
    """All public names and values of a pydantic object, declared or not."""
    entries = [item for item in obj.__dict__.items() if item[0][0] != "_"]
    extra = obj.__pydantic_extra__
    if extra:
        entries.extend(extra.items())
    return entries


def hidden_params(obj: Any) -> Any:
    """LiteLLM's notes on an answer: a mapping, an object, or None."""
    private = getattr(obj, "__pydantic_private__", None)
    if private:
        return private.get("_hidden_params")
    return obj.__dict__.get("_hidden_params") if hasattr(obj, "__dict__") else None


def hidden_value(hidden: Any, name: str) -> Any:
    """One of the notes, whichever form they have."""
    return hidden.get(name) if isinstance(hidden, dict) else getattr(hidden, name, None)


def build(cls: Any, values: Mapping[str, Any]) -> Any:
    """An object of a pydantic class that holds just `values`; dictionaries become objects where the fields say so.

    Nothing is validated or rewritten: what a provider sent stays what it sent.
    """
    state = blank(cls)
    fields = cls.model_fields
    converters = _converters(cls)
    own = dict(state.defaults)
    extra: dict[str, Any] = dict(state.extra)
    for name, value in values.items():
        convert = converters.get(name) if value is not None else None
        (own if name in fields else extra)[name] = value if convert is None else convert(value)
    obj = cls.__new__(cls)
    object.__setattr__(obj, "__dict__", own)
    object.__setattr__(obj, "__pydantic_extra__", extra)
    object.__setattr__(obj, "__pydantic_fields_set__", {*values, *state.nulls})
    object.__setattr__(obj, "__pydantic_private__", _private(cls))
    return obj


def _private(cls: Any) -> dict[str, Any] | None:
    """The private attributes of a new object, as pydantic would start them."""
    return {name: attribute.get_default() for name, attribute in cls.__private_attributes__.items()} or None


@cache
def _converters(cls: Any) -> dict[str, Callable[[Any], Any]]:
    """For each field that holds pydantic objects, the function that makes them."""
    found = {name: _converter(field.annotation) for name, field in cls.model_fields.items()}
    return {name: convert for name, convert in found.items() if convert is not None}


def _converter(annotation: Any) -> Callable[[Any], Any] | None:
    classes = classes_in(annotation)
    if not classes:
        return None
    return lambda value: _convert(value, classes)


def classes_in(annotation: Any) -> tuple[Any, ...]:
    """The pydantic classes an annotation names, through unions, lists and metadata, in order."""
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        return (annotation,)
    if get_origin(annotation) in (Union, types.UnionType, list) or hasattr(annotation, "__metadata__"):
        return tuple(cls for argument in get_args(annotation) for cls in classes_in(argument))
    return ()


def _convert(value: Any, classes: tuple[Any, ...]) -> Any:
    if isinstance(value, list):
        return [_convert(item, classes) for item in value]
    if not isinstance(value, dict):
        return value
    cls = _matching(value, classes)
    return value if cls is None else build(cls, value)


def _matching(value: dict[str, Any], classes: tuple[Any, ...]) -> Any:
    """The class for a dictionary: the only one, or the one whose ``type`` it carries; None leaves it a dictionary."""
    if len(classes) == 1:
        return classes[0]
    kind = value.get("type")
    return next((cls for cls in classes if kind is not None and kind in literal_types(cls)), None)


@cache
def literal_types(cls: Any) -> tuple[Any, ...]:
    field = cls.model_fields.get("type")
    return get_args(field.annotation) if field is not None and get_origin(field.annotation) is Literal else ()
